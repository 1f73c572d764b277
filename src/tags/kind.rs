//! What a tag is declared to hold: its type, and the limits of its numbers.

use std::cmp::Ordering;
use std::fmt;

use super::value::Input;

/// What a tag is declared to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Any,
    Bool,
    Int,
    Float,
    Text,
}

/// The names of all kinds.
pub const KINDS: [(Kind, &str); 5] = [
    (Kind::Any, "any"),
    (Kind::Bool, "bool"),
    (Kind::Int, "int"),
    (Kind::Float, "float"),
    (Kind::Text, "text"),
];

/// 2^63: the first float above every `i64`.
const ABOVE_INTS: f64 = 9_223_372_036_854_775_808.0;

impl Kind {
    /// As configuration and `LIST` write it.
    pub fn as_str(self) -> &'static str {
        KINDS[self as usize].1
    }

    /// From the form that [`Kind::as_str`] gives.
    pub fn parse(text: &str) -> Option<Kind> {
        KINDS.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind)
    }

    /// Makes the input fit the type if that loses nothing. Every type can hold no value.
    pub fn convert(self, input: Input<'_>) -> Result<Input<'_>, Mismatch> {
        match (self, input) {
            (Kind::Any, input) | (_, input @ Input::Null) => Ok(input),
            (Kind::Bool, input @ Input::Bool(_)) => Ok(input),
            (Kind::Int, input @ Input::Int(_)) => Ok(input),
            (Kind::Float, input @ Input::Float(_)) => Ok(input),
            (Kind::Text, input @ Input::Text(_)) => Ok(input),
            (Kind::Int, Input::Float(float)) if float.trunc() == float && in_int_range(float) => {
                Ok(Input::Int(float as i64))
            }
            // The range matters: 2^63 - 1 becomes 2^63, and the cast back saturates to where it began.
            (Kind::Float, Input::Int(int)) if in_int_range(int as f64) && int as f64 as i64 == int => {
                Ok(Input::Float(int as f64))
            }
            _ => Err(Mismatch(self)),
        }
    }
}

fn in_int_range(float: f64) -> bool {
    (-ABOVE_INTS..ABOVE_INTS).contains(&float)
}

/// The value is not one that a tag of this kind can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch(pub Kind);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the type of the tag is {}, which cannot hold this value", self.0.as_str())
    }
}

impl std::error::Error for Mismatch {}

/// A bound of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    /// Compares exactly, whatever the two types; `None` for NaN.
    pub fn order(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
            (Number::Int(a), Number::Float(b)) => order_mixed(a, b),
            (Number::Float(a), Number::Int(b)) => order_mixed(b, a).map(Ordering::reverse),
        }
    }
}

/// The cast of a large int to a float would round: a float in range is split into its whole part, which is an
/// int exactly, and the rest.
fn order_mixed(int: i64, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        None
    } else if in_int_range(float) {
        Some(int.cmp(&(float as i64)).then(0.0_f64.partial_cmp(&float.fract())?))
    } else if float > 0.0 {
        Some(Ordering::Less)
    } else {
        Some(Ordering::Greater)
    }
}

/// The least and the greatest number that a tag accepts, both included. Other types are not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    min: Option<Number>,
    max: Option<Number>,
}

impl Limits {
    /// `None` if nothing could satisfy them: a bound is NaN, or `min` above `max`.
    pub fn new(min: Option<Number>, max: Option<Number>) -> Option<Limits> {
        let is_nan = |bound: &Number| bound.order(*bound).is_none();
        if min.iter().chain(&max).any(is_nan) {
            return None;
        }
        match min.zip(max).and_then(|(min, max)| min.order(max)) {
            Some(Ordering::Greater) => None,
            _ => Some(Limits { min, max }),
        }
    }

    /// The least that is allowed.
    pub fn min(&self) -> Option<Number> {
        self.min
    }

    /// The greatest that is allowed.
    pub fn max(&self) -> Option<Number> {
        self.max
    }

    /// Whether the limits allow the value. NaN is outside any limits.
    pub fn contains(&self, value: &Input<'_>) -> bool {
        let number = match *value {
            Input::Int(int) => Number::Int(int),
            Input::Float(float) => Number::Float(float),
            Input::Null | Input::Bool(_) | Input::Text(_) => return true,
        };
        let above = self.min.is_none_or(|min| number.order(min).is_some_and(Ordering::is_ge));
        above && self.max.is_none_or(|max| number.order(max).is_some_and(Ordering::is_le))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(field: &str) -> Input<'_> {
        Input::parse(field).unwrap()
    }

    #[test]
    fn conversion_is_exact_or_refused() {
        #[track_caller]
        fn check(kind: Kind, field: &str, want: Option<&str>) {
            let got = kind.convert(parse(field)).ok().map(|input| input.into_value().to_string());
            assert_eq!(got.as_deref(), want, "{field} as {}", kind.as_str());
        }
        for (kind, _) in KINDS {
            check(kind, "null", Some("null"));
        }
        for field in ["true", "1", "1.5", "nan", r#""a""#] {
            check(Kind::Any, field, Some(field));
        }
        check(Kind::Bool, "true", Some("true"));
        check(Kind::Bool, "1", None);
        check(Kind::Text, r#""a""#, Some(r#""a""#));
        check(Kind::Text, "1", None);
        check(Kind::Int, "true", None);
        check(Kind::Int, "80.0", Some("80"));
        check(Kind::Int, "-0.0", Some("0"));
        check(Kind::Int, "80.5", None);
        check(Kind::Int, "nan", None);
        check(Kind::Int, "inf", None);
        check(Kind::Int, "-9223372036854775808.0", Some("-9223372036854775808"));
        check(Kind::Int, "-9223372036854777856.0", None);
        check(Kind::Int, "9223372036854774784.0", Some("9223372036854774784"));
        check(Kind::Int, "9223372036854775808.0", None);
        check(Kind::Float, "80", Some("80.0"));
        check(Kind::Float, "inf", Some("inf"));
        check(Kind::Float, r#""80""#, None);
        check(Kind::Float, "9007199254740992", Some("9007199254740992.0"));
        check(Kind::Float, "9007199254740993", None);
        check(Kind::Float, "-9223372036854775808", Some("-9.223372036854776e18"));
        check(Kind::Float, "9223372036854775807", None);
    }

    #[test]
    fn kinds_have_names() {
        for (kind, name) in KINDS {
            assert_eq!((kind.as_str(), Kind::parse(name)), (name, Some(kind)));
        }
        assert_eq!(Kind::parse("Int"), None);
        assert!(Mismatch(Kind::Float).to_string().len() <= 100);
    }

    #[test]
    fn limits() {
        #[track_caller]
        fn check(min: Option<Number>, max: Option<Number>, inside: &[&str], outside: &[&str]) {
            let limits = Limits::new(min, max).unwrap();
            inside.iter().for_each(|field| assert!(limits.contains(&parse(field)), "{field}"));
            outside.iter().for_each(|field| assert!(!limits.contains(&parse(field)), "{field}"));
        }
        let (int, float) = (|int| Some(Number::Int(int)), |float| Some(Number::Float(float)));
        check(None, None, &["0", "nan", "inf", "true"], &[]);
        check(int(0), int(10), &["0", "10", "0.0", "-0.0", "10.0", "9.5", "null", "true", r#""a""#], &[]);
        check(int(0), int(10), &[], &["-1", "11", "-0.5", "10.5", "nan", "inf", "-inf"]);
        check(float(0.5), None, &["0.5", "1", "inf"], &["0", "0.4", "nan", "-inf"]);
        check(None, float(-0.5), &["-0.5", "-1", "-inf"], &["0", "-0.4", "nan"]);
        check(
            int(i64::MAX),
            None,
            &["9223372036854775807", "9223372036854775808.0"],
            &["9223372036854775806"],
        );
        check(None, int(i64::MAX), &["9223372036854775807"], &["9223372036854775808.0"]);
        check(float(9007199254740992.0), None, &["9007199254740993"], &["9007199254740991"]);
        check(None, float(9007199254740992.0), &["9007199254740992"], &["9007199254740993"]);
        check(float(f64::NEG_INFINITY), None, &["-inf", "-9223372036854775808"], &["nan"]);
    }

    #[test]
    fn limits_that_nothing_satisfies() {
        let nan = Some(Number::Float(f64::NAN));
        assert_eq!(Limits::new(nan, None), None);
        assert_eq!(Limits::new(None, nan), None);
        assert_eq!(Limits::new(Some(Number::Int(2)), Some(Number::Float(1.5))), None);
        assert!(Limits::new(Some(Number::Int(2)), Some(Number::Float(2.0))).is_some());
    }

    proptest! {
        #[test]
        fn what_converts_converts_back(
            int in prop_oneof![any::<i64>(), (0..64_u32).prop_map(|bits| 1 << bits)],
        ) {
            if let Ok(float) = Kind::Float.convert(Input::Int(int)) {
                prop_assert!(Kind::Int.convert(float).unwrap().same(&Input::Int(int)));
            }
        }

        #[test]
        fn order_is_exact(int in prop_oneof![any::<i64>(), -4..4_i64], near in -3.0..3.0_f64) {
            let float = int as f64 + near;
            // In units of 1/1024 both fit 128 bits; only a finer fraction is lost.
            let exact = (i128::from(int) * 1024).cmp(&((float * 1024.0).floor() as i128));
            let got = Number::Int(int).order(Number::Float(float)).unwrap();
            let fraction = (float * 1024.0).fract() != 0.0;
            prop_assert!(got == exact || (fraction && exact.is_eq()), "{} {}", int, float);
            prop_assert_eq!(Number::Float(float).order(Number::Int(int)), Some(got.reverse()));
        }
    }
}
