//! Holds what Modbus masters are answered against what they asked.

use std::fmt;

use super::checkers::{self, State, Verdict};
use super::client::Seen;
use super::questions::{Field, Question, Reads};
use super::record::{Book, Record};
use super::units;
use crate::protocols::modbus::response::ReplyError;
use crate::protocols::modbus::{Request, Response};

/// Holds answers against questions.
pub(super) struct Judge {
    pub(super) who: String,
    pub(super) book: Book,
    /// Of somebody whose replies come in order.
    seen: Option<Seen>,
}

impl Judge {
    /// Of replies in a stream.
    pub(super) fn new(who: &str, book: Book) -> Judge {
        Judge { who: who.to_owned(), book, seen: Some(Seen::default()) }
    }

    /// Of replies that may overtake each other.
    pub(super) fn by_datagrams(who: &str, book: Book) -> Judge {
        Judge { who: who.to_owned(), book, seen: None }
    }

    /// A reply came, and `question` is the oldest that has none. Whether unit and transaction are the same.
    pub(super) fn hear(&mut self, question: Option<&Question>, reply: &[u8], is_addressed: bool) {
        let book = self.book.clone();
        let mut record = book.open();
        let verdict = match question {
            Some(question) if is_addressed => self.judge(&mut record, question, reply),
            _ => self.complain(question, reply),
        };
        record.judge(verdict);
    }

    fn complain(&self, question: Option<&Question>, reply: &[u8]) -> Verdict {
        let asked = question.map(Question::to_string);
        let reply = format!("{reply:02x?}");
        checkers::one_reply_each_in_order(&self.who, asked.as_deref(), &reply, false)
    }

    fn judge(&mut self, record: &mut Record, question: &Question, reply: &[u8]) -> Verdict {
        if question.is_wrong {
            let [code, exception] = *reply else { return self.complain(Some(question), reply) };
            if code != question.pdu[0] | 0x80 {
                return self.complain(Some(question), reply);
            }
            return checkers::refusals_have_their_cause(&self.who, question, exception, question.refusals);
        }
        let request = Request::decode(&question.pdu).expect("what is not wrong is a request");
        match Response::decode(&request, reply) {
            Err(ReplyError::Altered(_) | ReplyError::Mismatch(_)) => self.complain(Some(question), reply),
            Err(ReplyError::Exception(exception)) if question.by_device => {
                let code = exception.code();
                record.meet(format!("a write by Modbus refused with exception {code}"));
                if question.refusals.contains(&code) {
                    return Ok(());
                }
                checkers::refused_as_the_device_did(record, &self.who, &question.writes, code)
            }
            Err(ReplyError::Exception(exception)) => {
                let code = exception.code();
                record.meet("nothing to be shown to a master");
                checkers::refusals_have_their_cause(&self.who, question, code, question.refusals)
            }
            Ok(response) => self.judge_response(record, question, &response),
        }
    }

    fn judge_response(
        &mut self,
        record: &mut Record,
        question: &Question,
        response: &Response<'_>,
    ) -> Verdict {
        for (tag, version) in &question.writes {
            if question.by_device {
                record.meet("a write by Modbus that a device confirmed");
                checkers::answered_after_the_device(record, &self.who, tag, *version)?;
            }
            record.confirm(tag, *version);
        }
        match *response {
            Response::ReadHoldings(registers) | Response::ReadWrite(registers) => {
                self.judge_words(record, question, &registers.iter().collect::<Vec<u16>>())
            }
            Response::ReadCoils(bits) => {
                let coils: Vec<bool> = bits.iter().collect();
                let is_whole = units::are_whole_coils(&coils);
                checkers::no_block_is_torn(&self.who, question, &Words(&coils), is_whole)
            }
            _ => Ok(()),
        }
    }

    fn judge_words(&mut self, record: &mut Record, question: &Question, words: &[u16]) -> Verdict {
        let is_whole = match question.reads {
            Reads::Block(from, None) => units::is_whole_block(from, words),
            Reads::Block(from, Some(stamp)) => {
                (from..).zip(words).all(|(at, word)| *word == units::block_word(at, stamp))
            }
            Reads::BlockOfTags(from, None) => units::is_whole_block_of_tags(from, words),
            Reads::BlockOfTags(from, Some(stamp)) => {
                units::block_of_tags(stamp)[usize::from(from)..].starts_with(words)
            }
            Reads::Guarded => words[0] < units::UNSAFE_BELOW || words[0] == units::SAFE,
            Reads::Nothing | Reads::Coils => true,
            Reads::Fields(ref fields) => return self.judge_fields(record, question, fields, words),
        };
        checkers::no_block_is_torn(&self.who, question, &Words(words), is_whole)
    }

    fn judge_fields(
        &mut self,
        record: &mut Record,
        question: &Question,
        fields: &[Field],
        mut words: &[u16],
    ) -> Verdict {
        for field in fields {
            let (tag, at_least, version) = match (field, words) {
                (Field::Word(tag, at_least), [word, rest @ ..]) => {
                    words = rest;
                    (tag, *at_least, i64::from(*word))
                }
                (Field::Long(tag, at_least), [high, low, rest @ ..]) => {
                    words = rest;
                    (tag, *at_least, i64::from((u32::from(*high) << 16 | u32::from(*low)) as i32))
                }
                (Field::Quality(most), [quality, rest @ ..]) => {
                    words = rest;
                    checkers::what_is_bad_is_not_shown(&self.who, question, *quality, *most)?;
                    continue;
                }
                _ => unreachable!("there are as many registers as were asked for"),
            };
            let state = State::of(version);
            checkers::confirmed_writes_are_seen(&self.who, tag, at_least, &state)?;
            match &mut self.seen {
                Some(seen) => seen.see(record, &self.who, tag, &state)?,
                None => checkers::versions_were_written(record, &self.who, tag, &state)?,
            }
        }
        Ok(())
    }
}

/// Registers or coils, for people.
struct Words<'a, T>(&'a [T]);

impl<T: fmt::Debug> fmt::Display for Words<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x?}", self.0)
    }
}
