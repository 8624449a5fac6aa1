//! Grammars over real vocabularies: what they accept and reject, and answers that follow them.

mod schemas;
