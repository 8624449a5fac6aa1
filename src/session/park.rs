//! Conversations that are set aside while others are computed, so that each goes on from the keys and
//! values it had.

use std::{cell::Cell, rc::Rc};

use crate::engine::Parked;

/// Conversations that are set aside.
#[derive(Default)]
pub struct Shelf {
    /// Those that may go, the one used longest ago first.
    conversations: Vec<ParkedConversation>,
    /// Bytes of those that do not: generations that gave way have them.
    kept_bytes: Rc<Cell<u64>>,
}

/// A conversation that is set aside.
pub struct ParkedConversation {
    /// Tokens whose keys and values are.
    pub tokens: Vec<u32>,
    /// As `Session::written`.
    pub written: usize,
    /// Keys and values.
    pub caches: Parked,
}

/// The conversation of a generation that gave way, which is set aside until that goes on or is dropped.
pub struct KeptConversation {
    /// What was in the caches.
    pub conversation: ParkedConversation,
    kept_bytes: Rc<Cell<u64>>,
}

impl Drop for KeptConversation {
    fn drop(&mut self) {
        self.kept_bytes.set(self.kept_bytes.get() - self.conversation.caches.bytes());
    }
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
        let (index, best) =
            self.conversations.iter().map(common).enumerate().max_by_key(|(_, n)| *n)?;
        (best > n_common(cached, prompt) + FEW).then(|| self.conversations.remove(index))
    }

    /// Sets a conversation aside; those used longest ago go, until all take no more than `max_bytes`.
    pub fn put(&mut self, parked: ParkedConversation, max_bytes: u64) {
        self.conversations.push(parked);
        while self.conversations.len() > MAX_PARKED || self.bytes() > max_bytes {
            if !self.drop_oldest() {
                return;
            }
        }
    }

    /// Keeps the conversation of a generation that gives way; others go, until all take no more than
    /// `max_bytes`. `None` where that is not enough.
    pub fn keep(
        &mut self,
        conversation: ParkedConversation,
        max_bytes: u64,
    ) -> Option<KeptConversation> {
        let bytes = conversation.caches.bytes();
        while self.bytes() + bytes > max_bytes {
            if !self.drop_oldest() {
                return None;
            }
        }
        self.kept_bytes.set(self.kept_bytes.get() + bytes);
        Some(KeptConversation { conversation, kept_bytes: self.kept_bytes.clone() })
    }

    /// Lets the conversation go that was used longest ago; tells whether there was one.
    pub fn drop_oldest(&mut self) -> bool {
        let is_there = !self.conversations.is_empty();
        if is_there {
            self.conversations.remove(0);
        }
        is_there
    }

    /// Memory in use, for those that do not go as well.
    pub fn bytes(&self) -> u64 {
        let own: u64 = self.conversations.iter().map(|parked| parked.caches.bytes()).sum();
        own + self.kept_bytes.get()
    }
}
