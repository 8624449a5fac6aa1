//! The two file formats give the same weights.

use std::{collections::HashMap, ops::Range, path::Path};

use pesi::{
    Result,
    weights::{Precision, Section, Sink, WeightId, WeightTable, load},
};

use super::model::{describe, folder};

/// The packed sections of every segment of every weight, rows in order.
#[derive(Default)]
struct Kept(HashMap<(usize, usize, bool), Vec<u8>>);

impl Kept {
    fn section(&self, id: usize, segment: usize, section: Section) -> &[u8] {
        self.0.get(&(id, segment, section == Section::Scales)).map_or(&[], Vec::as_slice)
    }
}

impl Sink for Kept {
    fn write(
        &mut self,
        id: WeightId,
        segment: usize,
        section: Section,
        rows: Range<usize>,
        bytes: &[u8],
    ) -> Result<()> {
        let row_bytes = bytes.len() / rows.len();
        let kept = self.0.entry((id.0, segment, section == Section::Scales)).or_default();
        kept.resize(kept.len().max(rows.end * row_bytes), 0xaa);
        kept[rows.start * row_bytes..rows.end * row_bytes].copy_from_slice(bytes);
        Ok(())
    }
}

/// The weights at `path`: what they are, and their packed form.
fn packed(path: &Path) -> (WeightTable, Kept) {
    pollster::block_on(async {
        let opened = describe(path).await.unwrap();
        let plan = opened.description.plan(Precision::Compact).unwrap();
        let mut kept = Kept::default();
        load(&opened.sources, &plan.weights, &mut kept).await.unwrap();
        (plan.weights, kept)
    })
}

fn names(table: &WeightTable, with_layouts: bool) -> Vec<String> {
    let name = |weight: &pesi::weights::Weight| {
        let layouts: Vec<_> = weight.segments.iter().map(|s| s.layout.name()).collect();
        let layouts = if with_layouts { format!("{layouts:?}") } else { String::new() };
        format!("{} {} {} {layouts}", weight.name, weight.n_rows, weight.n_cols)
    };
    table.weights.iter().map(name).collect()
}

/// Byte for byte, but for the router, which GGUF files keep in single precision.
#[test]
fn safetensors_and_gguf_give_the_same_packed_weights() {
    for name in ["a1-basic", "a2-ratios"] {
        let (table, safetensors) = packed(&folder(name));
        let (gguf_table, gguf) = packed(&folder(&format!("gguf/{name}.bf16.gguf")));
        assert_eq!(names(&table, false), names(&gguf_table, false));
        let (a, b) = (names(&table, true), names(&gguf_table, true));
        assert!(a.iter().filter(|name| name.contains("fp4")).count() >= 6, "{a:?}");
        let differing: Vec<_> = a.iter().zip(&b).filter(|(a, b)| a != b).collect();
        assert!(differing.iter().all(|(name, _)| name.contains("router")), "{differing:?}");
        let mut n_compared = 0;
        for (id, weight) in table.weights.iter().enumerate() {
            if weight.name.ends_with("router") {
                continue;
            }
            for segment in 0..weight.segments.len() {
                for section in [Section::Quants, Section::Scales] {
                    let bytes = safetensors.section(id, segment, section);
                    n_compared += bytes.len();
                    let same = bytes == gguf.section(id, segment, section);
                    assert!(same, "{} {section:?}", weight.name);
                }
            }
        }
        assert!(n_compared > 300_000, "{n_compared} bytes");
    }
}
