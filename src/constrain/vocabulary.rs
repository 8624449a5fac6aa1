//! The tokens of a model as `llguidance` reads them: a tree of their bytes, and the way back.

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::{
    error::{Error, Result},
    tokenizer::Tokenizer,
};

/// Longest token in bytes; longer ones are never allowed. The tree counts ancestors in 10 bits.
const MAX_TOKEN: usize = 1000;

/// Most bytes of all tokens: the tree counts nodes in 22 bits.
const MAX_BYTES: usize = 4_000_000;

/// Most tokens: the tree counts them in 24 bits.
const MAX_TOKENS: usize = 16_000_000;

/// A vocabulary with its tree.
pub struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl Vocabulary {
    /// The tokens of `tokenizer`, and the id that stands for the end of a text: one beyond them.
    pub fn environment(tokenizer: Arc<Tokenizer>) -> Result<(TokEnv, TokenId)> {
        let n_tokens = tokenizer.n_vocab();
        let end = n_tokens as u32;
        // Control tokens have no bytes, so that no text holds one.
        let mut words: Vec<Vec<u8>> = (0..end)
            .map(|id| {
                let bytes = tokenizer.token_bytes(id).filter(|_| !tokenizer.is_special(id));
                bytes.filter(|bytes| bytes.len() <= MAX_TOKEN).unwrap_or_default().to_vec()
            })
            .collect();
        words.push(Vec::new());
        let n_bytes: usize = words.iter().map(Vec::len).sum();
        if n_bytes > MAX_BYTES || words.len() > MAX_TOKENS {
            return Err(Error::unsupported("constraints for so large a vocabulary")
                .with("found", n_bytes)
                .with("limit", MAX_BYTES));
        }
        let trie = TokTrie::from(&TokRxInfo::new(end + 1, end), &words);
        Ok((Arc::new(Self { tokenizer, trie }), end))
    }

    /// Bytes that the tokenizer has no tokens for, or that are no whole characters, take the longest
    /// tokens that there are.
    fn encode(&self, text: &str) -> Vec<TokenId> {
        let tokens = self.tokenizer.encode_ordinary(text).unwrap_or_default();
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
