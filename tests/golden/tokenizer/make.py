"""Writes the golden files of this folder with Hugging Face's `tokenizers` (pip install tokenizers).

    make.py GPT_OSS LLAMA_3 QWEN_2_5 SMOLLM2 PUBLIC HARMONY

The first four are official `tokenizer.json` files (that of SmolLM2 is ../smollm2/tokenizer_from_gguf.json).
PUBLIC lists texts with their gpt-oss and SmolLM2 ids, HARMONY conversations with the text and the ids of their prompts.

splits.json    texts and the words that each family of pre-tokenizers cuts them into, after normalisation
smollm2.json   texts and their SmolLM2 ids
o200k.json     texts and their gpt-oss ids, with as much of the vocabulary as they need
"""
import json
import sys

from tokenizers import Tokenizer, pre_tokenizers

GPT_OSS, LLAMA_3, QWEN, SMOLLM, PUBLIC, HARMONY = sys.argv[1:]

TEXTS = [
    "", " ", "\n", "a", " a", "  a", "   \n\n  b", "\r\n\r\nx", "x \r\n y", "\t\tx\t", "a\u00a0b", "a\u3000 b", "\x0b\x0c\x85\u2028x",
    "I'm you're THEY'LL We'Ve it'S d'accordo l'\u2019ora 's 'S 'll", "don't'll've", "x's'S",
    "0 12 123 1234 12345678 3.14 1,000,000 0x1F 1e-5", "\u0663\u0662\u0661\u0660 \u2167 \u00bd \u00b2 \u4e94 \u0967\u0968\u0969\u096a",
    "CamelCaseString XMLHttpRequest iPhone MacBook McDonald snake_case kebab-case SCREAMING_CASE",
    "ABCdef ABCDef abcDEF aBcD ABc Abc", "\u01c5ungla \u01c8 \u01cb \u02b0x \u02b0X \ufb01ne \u0130stanbul \u017fo \u1e60a",
    "na\u00efve fa\u00e7ade citt\u00e0 perch\u00e9 \u00c8 \u00c9COLE Stra\u00dfe", "e\u0301a\u0308 cafe\u0301 \u0041\u030a", "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 \u0401\u0436\u0438\u043a", "\u0395\u03bb\u03bb\u03ac\u03b4\u03b1 \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0645\u064f\u062d\u064e\u0645\u064e\u0651\u062f", "\u05e2\u05d1\u05e8\u05d9\u05ea \u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "\u1019\u103c\u1014\u103a\u1019\u102c\u1018\u102c\u101e\u102c",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3067\u3059\u3002\u4e2d\u6587\uff0c\u6807\u70b9\uff01 \ud55c\uad6d\uc5b4", "\u3042\u308a\u304c\u3068\u3046\u3054\u3056\u3044\u307e\u3059\uff12\uff10\uff12\uff15\u5e74",
    "\U0001f642\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308!! \u2764\ufe0f\U0001f44d\U0001f3fd", "a\u200bb\u200d\ufeffc", "\U0001d400\U0001d41a \U0001e900\U0001e922 \U00020000",
    "def f(x):\n    return x**2  # comment\n\n\nclass A:\n\tpass\n", "for (int i=0;i<n;++i){ a[i]+=b->c; }\r\n\r\n", "<div class=\"x\">&nbsp;</div>\n\n  \n",
    "https://example.com/path?q=1&r=2#frag //// \n/\n", "C:\\Users\\x\\ /usr/bin // /* c */ http://", "...!!!???\n\n---===", "\"quoted\" 'single' (paren) [b] {c} \u00abx\u00bb \u201cy\u201d",
    "a/b\n/c /\n//\r\n/d", " !x !\n x? \n", "$12.50 \u20ac3,40 \u00a57 50% \u00b0C \u2200x\u2208\u211d", "tabs\tand\nnewlines\r\n\r\n\n x", "trailing   ", "   leading", "\u00a0\u00a0x \u00a0 y",
    "\x00\x01\x7f x\x1by", "Perch\u00e9 l'universit\u00e0 \u00e8 cos\u00ec?\nGi\u00e0, \u00abpu\u00f2\u00bb.", "\u0301\u0301 a\u0301 \u0301b", "\u0e01\u0e33 \u0e33", "\u02bcx \u02bcX x\u02bc",
]


def load(path):
    return Tokenizer.from_file(path)


def alphabet():
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + n): byte for n, byte in enumerate(moved)}


BYTES = alphabet()


def words(tokenizer, text):
    if tokenizer.normalizer:
        text = tokenizer.normalizer.normalize_str(text)
    pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    return [bytes(BYTES[c] for c in piece).decode() for piece in pieces]


def line(value):
    return json.dumps(value, separators=(",", ":"))


def write_cases(name, cases):
    with open(name, "w") as file:
        file.write("[\n" + ",\n".join(map(line, cases)) + "\n]\n")


def splits():
    gpt_2 = load(SMOLLM)
    gpt_2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    families = {
        "gpt-2": gpt_2, "smollm": load(SMOLLM), "llama-bpe": load(LLAMA_3), "qwen2": load(QWEN), "gpt-4o": load(GPT_OSS),
    }
    return [
        {"text": text, "words": {name: words(family, text) for name, family in families.items()}}
        for text in TEXTS
    ]


def smollm2():
    tokenizer = load(SMOLLM)
    with open(PUBLIC) as file:
        public = [case["text"] for case in json.load(file)]
    for case in json.load(open(PUBLIC)):
        assert tokenizer.encode(case["text"]).ids == case["smollm2_ids"], case["text"]
    return [{"text": text, "ids": tokenizer.encode(text).ids} for text in public + TEXTS]


def o200k():
    """A word is merged here pair by pair, to see which tokens and merges its encoding goes through."""
    tokenizer = load(GPT_OSS)
    with open(GPT_OSS, encoding="utf-8") as file:
        official = json.load(file)
    vocab = official["model"]["vocab"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(official["model"]["merges"])}
    used_merges, used_tokens = set(), {char for char in BYTES}
    with open(PUBLIC) as file:
        cases = [{"text": case["text"], "ids": case["ids"]} for case in json.load(file)]
    with open(HARMONY) as file:
        cases += [{"text": case["text"], "ids": case["tokens"]} for case in json.load(file)["hf_template"]]
    cases += [{"text": text, "ids": tokenizer.encode(text).ids} for text in TEXTS]
    special = {token["content"]: token["id"] for token in official["added_tokens"]}
    for case in cases:
        assert tokenizer.encode(case["text"]).ids == case["ids"], case["text"]
        plain = case["text"]
        for content in special:
            plain = plain.replace(content, "\0SPECIAL\0")
        for part in plain.split("\0SPECIAL\0"):
            for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(part):
                if word in vocab:
                    used_tokens.add(word)
                    continue
                symbols = list(word)
                while True:
                    pairs = [(ranks[pair], pair) for pair in zip(symbols, symbols[1:]) if pair in ranks]
                    if not pairs:
                        break
                    rank, (left, right) = min(pairs)
                    used_merges.add(rank)
                    used_tokens |= {left, right, left + right}
                    at = next(i for i in range(len(symbols)) if (symbols[i], symbols[i + 1]) == (left, right))
                    symbols[at:at + 2] = [left + right]
    merges = official["model"]["merges"]
    return {
        "n_vocab": max(special.values()) + 1,
        "tokens": dict(sorted(((token, vocab[token]) for token in used_tokens), key=lambda item: item[1])),
        "special": special,
        "merges": [" ".join(merges[rank]) for rank in sorted(used_merges)],
        "cases": cases,
    }


write_cases("splits.json", splits())
write_cases("smollm2.json", smollm2())
with open("o200k.json", "w") as file:
    file.write("{\n" + ",\n".join(f"{line(key)}:{line(value)}" for key, value in o200k().items()) + "\n}\n")
