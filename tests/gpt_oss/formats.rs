//! The two file formats give the same weights.

use std::{cell::RefCell, ops::Range, path::Path, rc::Rc};

use pesi::{
    Result,
    weights::{Image, Precision, Section, Sink, WeightId, load},
};

use super::model::{describe, folder};

/// Keeps what is written as an image.
struct Kept {
    image: Image,
    bytes: Rc<RefCell<Vec<u8>>>,
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
        let range = self.image.section(id, segment).range(section, &rows);
        self.bytes.borrow_mut()[range.start as usize..range.end as usize].copy_from_slice(bytes);
        Ok(())
    }
}

fn image(path: &Path) -> (Vec<String>, Vec<u8>) {
    pollster::block_on(async {
        let opened = describe(path).await.unwrap();
        let plan = opened.description.plan(Precision::Compact).unwrap();
        let image = Image::new(&plan.weights);
        let bytes = Rc::new(RefCell::new(vec![0xaa; image.len as usize]));
        let mut kept = Kept { image, bytes: bytes.clone() };
        load(&opened.sources, &plan.weights, &mut kept, &mut |_| Ok(())).await.unwrap();
        let names = plan.weights.weights.iter().map(|weight| {
            let layouts: Vec<_> = weight.segments.iter().map(|s| s.layout.name()).collect();
            format!("{} {} {} {layouts:?}", weight.name, weight.n_rows, weight.n_cols)
        });
        (names.collect(), bytes.take())
    })
}

/// Byte for byte, but for the router, which GGUF files keep in single precision.
#[test]
fn safetensors_and_gguf_give_the_same_packed_weights() {
    for name in ["a1-basic", "a2-ratios"] {
        let (names, safetensors) = image(&folder(name));
        let (gguf_names, gguf) = image(&folder(&format!("gguf/{name}.bf16.gguf")));
        let without_layout = |names: &[String]| -> Vec<String> {
            names.iter().map(|name| name.split('[').next().unwrap().to_owned()).collect()
        };
        assert_eq!(without_layout(&names), without_layout(&gguf_names));
        let experts: Vec<_> = names.iter().filter(|name| name.contains("fp4")).collect();
        assert!(experts.len() >= 6, "{experts:?}");
        let differing: Vec<_> =
            names.iter().zip(&gguf_names).filter(|(a, b)| a != b).map(|(a, _)| a).collect();
        assert!(differing.iter().all(|name| name.contains("router")), "{differing:?}");
        compare(&folder(name), &folder(&format!("gguf/{name}.bf16.gguf")), &safetensors, &gguf);
    }
}

fn compare(a: &Path, b: &Path, a_bytes: &[u8], b_bytes: &[u8]) {
    let tables = [a, b].map(|path| {
        pollster::block_on(async {
            describe(path).await.unwrap().description.plan(Precision::Compact).unwrap().weights
        })
    });
    let images = [Image::new(&tables[0]), Image::new(&tables[1])];
    let mut n_compared = 0;
    for (index, weight) in tables[0].weights.iter().enumerate() {
        for (segment_idx, segment) in weight.segments.iter().enumerate() {
            if weight.name.ends_with("router") {
                continue;
            }
            let rows = 0..segment.rows.len();
            for section in [Section::Quants, Section::Scales] {
                let [in_a, in_b] = [&images[0], &images[1]].map(|image| {
                    let range = image.section(WeightId(index), segment_idx).range(section, &rows);
                    range.start as usize..range.end as usize
                });
                n_compared += in_a.len();
                assert_eq!(a_bytes[in_a], b_bytes[in_b], "{} {section:?}", weight.name);
            }
        }
    }
    assert!(n_compared > 300_000, "{n_compared} bytes");
}
