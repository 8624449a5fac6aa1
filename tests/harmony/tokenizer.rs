//! Token ids against `tiktoken-rs`, which has OpenAI's vocabulary and rules.

use proptest::{collection::vec, prelude::*, sample::select};

use crate::TOKENIZER;

/// Texts of many scripts and kinds, a line each.
const CORPUS: &str = include_str!("../golden/tokenizer/corpus.txt");

/// White space as it stands between words and lines.
const GAPS: [&str; 16] = [
    "",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    " \n",
    "\n ",
    " \n \n",
    "\u{a0}",
    "\u{3000}",
    "\u{2028}",
    "\u{85}\u{b}",
];

/// Names of special tokens, as both know them.
const SPECIAL: [&str; 10] = [
    "<|startoftext|>",
    "<|endoftext|>",
    "<|return|>",
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
    "<|reserved_200000|>",
];

/// Names that only one of the two knows: OpenAI's file and `tiktoken-rs` differ on token 200018.
const DISPUTED: [&str; 2] = ["<|endofprompt|>", "<|reserved_200018|>"];

/// Fails unless the ids are those of the reference.
fn compare(text: &str) -> Result<(), TestCaseError> {
    let reference = tiktoken_rs::o200k_harmony_singleton();
    let ids = TOKENIZER.encode_ordinary(text).unwrap();
    prop_assert_eq!(&ids, &reference.encode_ordinary(text), "{:?}", text);
    prop_assert_eq!(TOKENIZER.decode(&ids), text);
    if DISPUTED.iter().any(|name| text.contains(name)) {
        return Ok(());
    }
    let ids = TOKENIZER.encode(text).unwrap();
    prop_assert_eq!(&ids, &reference.encode_with_special_tokens(text), "{:?}", text);
    prop_assert_eq!(TOKENIZER.decode(&ids), text);
    Ok(())
}

#[test]
fn the_corpus_has_the_ids_of_the_reference() {
    compare(CORPUS).unwrap();
    for line in CORPUS.lines() {
        for gap in GAPS {
            compare(&format!("{gap}{line}{gap}")).unwrap();
        }
        let words: Vec<&str> = line.split(' ').collect();
        for gap in GAPS {
            compare(&words.join(gap)).unwrap();
        }
    }
}

#[test]
fn special_tokens_have_the_ids_of_the_reference() {
    for name in SPECIAL {
        let ids = tiktoken_rs::o200k_harmony_singleton().encode_with_special_tokens(name);
        assert_eq!(ids, [TOKENIZER.special_id(name).unwrap()], "{name}");
    }
}

/// Text that joins characters of one script, pieces of the corpus, white space and markers.
fn text() -> impl Strategy<Value = String> {
    let scripts = [
        "[a-zA-Z']{1,8}",
        "[À-ɏ]{1,4}",
        "[Ͱ-Ͽἀ-῾]{1,4}",
        "[Ѐ-ӿ\u{300}-\u{308}]{1,6}",
        "[\u{5d0}-\u{5ea}\u{5b0}-\u{5c2}]{1,5}",
        "[\u{620}-\u{669}]{1,6}",
        "[\u{900}-\u{97f}\u{200d}]{1,6}",
        "[\u{b80}-\u{bff}]{1,5}",
        "[\u{e00}-\u{e5b}]{1,6}",
        "[\u{1000}-\u{109f}]{1,5}",
        "[\u{1780}-\u{17f9}]{1,5}",
        "[぀-ヿ]{1,5}",
        "[一-鿿]{1,5}",
        "[가-힣\u{1100}-\u{11ff}]{1,5}",
        "[0-9]{1,9}",
        "[!-/:-@\\[-`{-~]{1,5}",
        "[\u{1f300}-\u{1faff}\u{200d}\u{fe0f}\u{1f1e6}-\u{1f1ff}]{1,5}",
        "[\u{1d400}-\u{1d7ff}]{1,3}",
        "[ \\t\\r\\n]{1,5}",
        "\\PC{1,4}",
    ];
    let characters: Vec<BoxedStrategy<String>> =
        scripts.into_iter().map(|pattern| pattern.boxed()).collect();
    let words: Vec<&str> = CORPUS.split_whitespace().collect();
    let piece = prop_oneof![
        6 => proptest::strategy::Union::new(characters),
        2 => select(words).prop_map(str::to_owned),
        2 => select(GAPS.to_vec()).prop_map(str::to_owned),
        1 => select(SPECIAL.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn any_text_has_the_ids_of_the_reference(text in text()) {
        compare(&text)?;
    }
}
