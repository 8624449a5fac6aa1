//! Each operation as dispatches: twins of `cpu` and of the shaders, file by file.

pub mod attention;
pub mod embed;
pub mod matmul;
pub mod matvec;
pub mod rms_norm;
pub mod rope;
pub mod sample;

use super::{
    context::Capabilities,
    record::Binding,
    shader::Variant,
    tuning::Tuning,
    weights::{GpuWeight, Page},
};
use crate::ops::Then;

/// What every operation needs to know of the device.
pub struct Target<'a> {
    /// What the adapter can do.
    pub capabilities: &'a Capabilities,
    /// How kernels are laid out.
    pub tuning: &'a Tuning,
}

impl Target<'_> {
    /// `variant` with the exchange between `lanes` of `workgroup` threads.
    fn lanes(&self, variant: Variant, workgroup: u32, lanes: u32) -> Variant {
        let variant = variant.number("WORKGROUP", workgroup).number("LANES", lanes);
        match self.capabilities.subgroup {
            _ if lanes == 1 => variant.define("SINGLE_LANE"),
            Some(size) => variant.define("SUBGROUPS").number("SUBGROUP", size),
            None => variant,
        }
    }
}

/// A product with a matrix whose buffers are known: what matvec and matmul share.
pub struct Product<'a> {
    /// The matrix.
    pub weight: &'a GpuWeight,
    /// Added to the product.
    pub bias: Option<&'a GpuWeight>,
    /// Output rows.
    pub out: &'a super::context::GpuBuffer,
    /// What becomes of the product.
    pub then: Then,
}

impl<'a> Product<'a> {
    fn variant(&self, stem: &'static str, page: &Page) -> Variant {
        Variant::new(stem)
            .layout(page.layout)
            .define_if(self.bias.is_some(), "BIAS")
            .define_if(self.then == Then::Add, "ADD")
            .define_if(self.then == Then::SwiGlu, "SWIGLU")
    }

    /// Bindings 2 and 3, 5 and 6, which both shaders have in the same places.
    fn bindings(&self, page: &'a Page) -> Vec<(u32, Binding<'a>)> {
        let mut bindings = vec![
            (2, Binding::Read(page.quants())),
            (3, Binding::Read(page.scales())),
            (5, Binding::Write(self.out.into())),
        ];
        bindings.extend(self.bias.map(|bias| (6, Binding::Read(bias.vector().into()))));
        bindings
    }
}
