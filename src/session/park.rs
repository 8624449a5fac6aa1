//! Conversations that are set aside while others are computed, so that each goes on from the keys and
//! values it had.

use crate::engine::Parked;

/// Conversations that are set aside, the one used longest ago first.
#[derive(Default)]
pub struct Shelf(Vec<ParkedConversation>);

/// A conversation that is set aside.
pub struct ParkedConversation {
    /// Tokens whose keys and values are.
    pub tokens: Vec<u32>,
    /// As `Session::written`.
    pub written: usize,
    /// Keys and values.
    pub caches: Parked,
}

/// Tokens that are not worth setting aside: computing them again takes less time than a turn.
const FEW: usize = 32;

/// Conversations at most.
const MAX_PARKED: usize = 8;

/// Number of tokens that two conversations have in common.
pub fn n_common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Whether `cached` is another conversation than the one that `prompt` continues, and worth keeping.
pub fn is_worth_parking(cached: &[u32], prompt: &[u32]) -> bool {
    let n_common = n_common(cached, prompt);
    cached.len() - n_common > FEW && n_common < cached.len() / 2
}

impl Shelf {
    /// The conversation that has clearly more in common with `prompt` than `cached` has, if there is one.
    pub fn take(&mut self, prompt: &[u32], cached: &[u32]) -> Option<ParkedConversation> {
        let common = |parked: &ParkedConversation| n_common(&parked.tokens, prompt);
        let (index, best) = self.0.iter().map(common).enumerate().max_by_key(|(_, n)| *n)?;
        (best > n_common(cached, prompt) + FEW).then(|| self.0.remove(index))
    }

    /// Sets a conversation aside; those used longest ago go, until all take no more than `max_bytes`.
    pub fn put(&mut self, parked: ParkedConversation, max_bytes: u64) {
        self.0.push(parked);
        while self.0.len() > MAX_PARKED || self.bytes() > max_bytes {
            self.0.remove(0);
        }
    }

    /// Lets the conversation go that was used longest ago; tells whether there was one.
    pub fn drop_oldest(&mut self) -> bool {
        !self.0.is_empty() && {
            self.0.remove(0);
            true
        }
    }

    /// Memory in use.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|parked| parked.caches.bytes()).sum()
    }
}
