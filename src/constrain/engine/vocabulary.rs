//! The tokens of a model as `llguidance` reads them: a tree of their bytes, and the way back.

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::super::{Encode, Words};

/// A vocabulary with its tree.
pub struct Vocabulary {
    encode: Encode,
    trie: TokTrie,
}

impl Vocabulary {
    /// The tokens `words`, and one more for the end of a text.
    pub fn environment(words: &Words, encode: Encode) -> TokEnv {
        let end = words.end();
        let words: Vec<Vec<u8>> = words.iter().chain([&[][..]]).map(<[u8]>::to_vec).collect();
        let trie = TokTrie::from(&TokRxInfo::new(end + 1, end), &words);
        Arc::new(Self { encode, trie })
    }

    /// Bytes that the tokenizer has no tokens for, or that are no whole characters, take the longest
    /// tokens that there are.
    fn encode(&self, text: &str) -> Vec<TokenId> {
        let tokens = (self.encode)(text);
        if self.trie.decode_raw(&tokens) == text.as_bytes() {
            return tokens;
        }
        self.trie.greedy_tokenize(text.as_bytes())
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.encode(text))
    }
}
