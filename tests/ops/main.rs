//! Every operation on the CPU and on the GPU against its plain double-precision form, in every variant
//! that an adapter may get, at sizes around block and workgroup limits, with outliers.
//!
//! A machine without a Vulkan, Metal or DX12 device fails these tests; a software one will do.

mod attention;
mod data;
mod device;
mod distribution;
mod experts;
mod limits;
mod linear;
mod rope;
mod sample;
mod shaders;
