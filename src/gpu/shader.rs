//! Shader sources and their variants.
//!
//! Sources in `shaders/` are WGSL with three additions, expanded here: `#import "file"` inserts a file
//! once, `#ifdef NAME` … `#else` … `#endif` choose by a variant's defines, `#repeat x COUNT` … `#end` writes
//! its lines COUNT times with 0, 1 and so on in the place of `$x`, for indices that must be constants. A
//! variant's numbers become `const` declarations in front; they size private arrays and unroll loops, which
//! pipeline-overridable constants may not.

use std::{collections::HashSet, fmt::Write as _};

use crate::weights::Layout;

/// A shader with its defines and numbers: what makes one pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Name of the file in `shaders/`, without extension.
    pub stem: &'static str,
    /// Names that `#ifdef` finds.
    pub defines: Vec<&'static str>,
    /// Values of `const` declarations.
    pub numbers: Vec<(&'static str, u32)>,
}

/// What the source of a variant is written for.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// Adds the line that enables subgroups, which browsers require and naga rejects.
    pub for_browser: bool,
    /// Reads parameters from storage buffers instead of uniform buffers.
    pub stores_parameters: bool,
}

impl Variant {
    /// The plain shader.
    pub fn new(stem: &'static str) -> Self {
        Self { stem, defines: Vec::new(), numbers: Vec::new() }
    }

    /// With `name` defined.
    #[must_use]
    pub fn define(mut self, name: &'static str) -> Self {
        self.defines.push(name);
        self
    }

    /// With `name` defined if `condition` holds.
    #[must_use]
    pub fn define_if(self, condition: bool, name: &'static str) -> Self {
        if condition { self.define(name) } else { self }
    }

    /// With the constant `name`.
    #[must_use]
    pub fn number(mut self, name: &'static str, value: u32) -> Self {
        self.numbers.push((name, value));
        self
    }

    /// With the defines by which `block.wgsl` reads `layout`.
    #[must_use]
    pub fn layout(self, layout: Layout) -> Self {
        let defines: &[&'static str] = match layout {
            Layout::U4 => &["LAYOUT_U4", "AFFINE"],
            Layout::Fp4 => &["LAYOUT_FP4"],
            Layout::I8 => &["LAYOUT_I8", "INT8"],
            Layout::I8Group16 => &["LAYOUT_I8_GROUP16", "INT8"],
            Layout::I8Affine => &["LAYOUT_I8_AFFINE", "INT8", "AFFINE"],
            Layout::F16 => &["LAYOUT_F16", "DENSE16", "DENSE"],
            Layout::Bf16 => &["LAYOUT_BF16", "DENSE16", "DENSE"],
            Layout::F32 => &["LAYOUT_F32", "DENSE"],
            Layout::Vector => unreachable!("vectors are not read in blocks"),
        };
        defines.iter().fold(self, |variant, name| variant.define(name))
    }

    /// Whether nearly all that it does is to read weights once: products of one row, and what they are held against.
    pub fn streams_weights(&self) -> bool {
        matches!(self.stem, "matvec" | "experts_matvec" | "stream")
    }

    /// A name for labels: stem, defines and numbers.
    pub fn label(&self) -> String {
        let mut label = self.stem.to_owned();
        for define in &self.defines {
            let _ = write!(label, " {define}");
        }
        for (name, value) in &self.numbers {
            let _ = write!(label, " {name}={value}");
        }
        label
    }

    /// The WGSL source of the variant.
    ///
    /// # Panics
    /// When a file in `shaders/` imports one that is not there or its conditions do not nest: tests
    /// expand every variant.
    pub fn source(&self, dialect: Dialect) -> String {
        let mut source = String::new();
        if self.defines.contains(&"HALF_TILE") || self.defines.contains(&"HALF_CACHE") {
            source.push_str("enable f16;\n");
        }
        if dialect.for_browser && self.defines.contains(&"SUBGROUPS") {
            source.push_str("enable subgroups;\n");
        }
        for (name, value) in &self.numbers {
            let _ = writeln!(source, "const {name}: u32 = {value}u;");
        }
        let mut imported = HashSet::new();
        self.expand(self.stem, &mut imported, &mut source);
        let source = self.repeat(&source);
        match dialect.stores_parameters {
            true => source.replace("var<uniform>", "var<storage, read>"),
            false => source,
        }
    }

    fn expand(&self, stem: &str, imported: &mut HashSet<String>, out: &mut String) {
        if !imported.insert(stem.to_owned()) {
            return;
        }
        // One entry for each open condition: whether its lines are taken.
        let mut taken: Vec<bool> = Vec::new();
        for line in file(stem).lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("#ifdef") => {
                    let name = words.next().expect("#ifdef has a name");
                    taken.push(self.defines.contains(&name));
                }
                Some("#else") => {
                    let last = taken.last_mut().expect("#else follows #ifdef");
                    *last = !*last;
                }
                Some("#endif") => {
                    taken.pop().expect("#endif follows #ifdef");
                }
                _ if taken.contains(&false) => {}
                Some("#import") => {
                    let name = words.next().expect("#import has a file").trim_matches('"');
                    self.expand(name.trim_end_matches(".wgsl"), imported, out);
                }
                _ => {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        assert!(taken.is_empty(), "{stem}.wgsl: #ifdef without #endif");
    }

    /// `source` with its repetitions written out, innermost last.
    fn repeat(&self, source: &str) -> String {
        let mut out = String::new();
        let mut lines = source.lines();
        while let Some(line) = lines.next() {
            let mut words = line.split_whitespace();
            if words.next() != Some("#repeat") {
                out.push_str(line);
                out.push('\n');
                continue;
            }
            let name = format!("${}", words.next().expect("#repeat has a name"));
            let count = words.next().expect("#repeat has a count");
            let number = self.numbers.iter().find(|(name, _)| *name == count);
            let count =
                number.map_or_else(|| count.parse().expect("a number"), |&(_, count)| count);
            let mut body = String::new();
            let mut depth = 1;
            for line in lines.by_ref() {
                depth += match line.split_whitespace().next() {
                    Some("#repeat") => 1,
                    Some("#end") => -1,
                    _ => 0,
                };
                if depth == 0 {
                    break;
                }
                body.push_str(line);
                body.push('\n');
            }
            assert!(depth == 0, "{}.wgsl: #repeat without #end", self.stem);
            for i in 0..count {
                out.push_str(&self.repeat(&body.replace(&name, &i.to_string())));
            }
        }
        out
    }
}

macro_rules! files {
    ($($stem:literal),* $(,)?) => {
        fn file(stem: &str) -> &'static str {
            match stem {
                $($stem => include_str!(concat!("../../shaders/", $stem, ".wgsl")),)*
                _ => panic!("there is no shader called {stem}"),
            }
        }
    };
}

files![
    "attention",
    "attention_merge",
    "attention_rows",
    "block",
    "cache",
    "choose",
    "embed",
    "experts_gate",
    "experts_group",
    "experts_lanes",
    "experts_matmul",
    "experts_matvec",
    "experts_sum",
    "experts_tile",
    "input",
    "lane_tile",
    "lanes",
    "matmul",
    "matmul_lanes",
    "matvec",
    "product",
    "product_rows",
    "rms_norm",
    "rope",
    "rotation",
    "route",
    "sample_pick",
    "sample_scan",
    "sample_top",
    "sampling",
    "stage",
    "state",
    "stream",
    "subnormals",
    "unit",
];
