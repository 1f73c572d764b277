//! The rules for a server whose connections are served by several engines.

use super::{Verdict, violation};
use crate::engine::{Engine, REFUSED_AT_ONCE};

/// Whoever sleeps while something is left for it is woken: letters, changes, peers that were handed over.
pub fn who_is_left_something_is_woken(shard: usize, is_left: bool, is_called: bool) -> Verdict {
    if is_left && !is_called {
        let rule = "who_is_left_something_is_woken";
        return violation(rule, format_args!("shard {shard} sleeps on, and something was left for it"));
    }
    Ok(())
}

/// A peer is given to a shard that has as few connections as any.
pub fn peers_go_to_the_least_loaded(loads: &[usize], given: usize) -> Verdict {
    if loads.iter().any(|load| *load < loads[given]) {
        return violation(
            "peers_go_to_the_least_loaded",
            format_args!("shard {given} was given one more, where the shards have {loads:?}"),
        );
    }
    Ok(())
}

/// A device may write for as long as no other connection speaks for it.
pub fn only_who_was_taken_over_is_denied(who: &str, is_denied: bool, speaks: bool) -> Verdict {
    if is_denied && speaks {
        return violation("only_who_was_taken_over_is_denied", format_args!("{who} speaks for its device"));
    }
    Ok(())
}

/// Peers are turned away when all shards together serve `max_connections`, and not before; and few hear why.
pub fn connections_within_limits(served: usize, most: usize, is_refused: bool) -> Verdict {
    if is_refused != (served >= most) {
        let how = if is_refused { "refused" } else { "served" };
        return violation(
            "connections_within_limits",
            format_args!("a peer is {how} where {served} are, of {most} at most"),
        );
    }
    Ok(())
}

/// Who is turned away hears why, unless too many do already.
pub fn few_hear_why(turned_away: usize, is_closed: bool) -> Verdict {
    if is_closed != (turned_away >= REFUSED_AT_ONCE) {
        let how = if is_closed { "closed" } else { "told why" };
        return violation(
            "few_hear_why",
            format_args!("a peer too many is {how} where {turned_away} hear it"),
        );
    }
    Ok(())
}

/// When all is quiet nothing is pending, neither here nor at other shards: each order was settled, and its
/// place given back.
pub fn nothing_is_pending(host: &str, engine: &Engine) -> Verdict {
    match engine.pending() {
        (0, 0) => Ok(()),
        (tickets, elsewhere) => violation(
            "nothing_is_pending",
            format_args!("{host} has {tickets} tickets, and {elsewhere} places are taken at other shards"),
        ),
    }
}
