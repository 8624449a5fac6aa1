//! Dispatches recorded once and encoded for every chunk or token.
//!
//! Operations describe their dispatches to a [`Recorder`] as data: a shader variant, what its bindings
//! are, and how its grid follows from the work at hand. Finishing makes pipelines, one arena of
//! parameters, and bind groups; encoding then only sets them and dispatches, all in one compute pass.

use std::{collections::HashMap, ops::Range};

use super::{
    context::{Context, GpuBuffer},
    shader::Variant,
};

/// The work at hand, on which grids depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Tokens in the chunk.
    pub n_tokens: u32,
    /// Positions that the chunk's last token attends to.
    pub n_keys: u32,
}

/// Workgroups in each dimension, or none when the dispatch has nothing to do.
pub type Grid = Box<dyn Fn(Extent) -> Option<[u32; 3]>>;

/// Where the numbers of workgroups come from.
enum Workgroups {
    Counted(Grid),
    /// Three words at the start of a buffer, which an earlier dispatch wrote.
    Indirect(wgpu::Buffer),
}

/// A part of a buffer.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    buffer: &'a GpuBuffer,
    offset: u64,
    bytes: Option<u64>,
}

impl<'a> Slice<'a> {
    /// `bytes` bytes from `offset`.
    pub fn new(buffer: &'a GpuBuffer, offset: u64, bytes: u64) -> Self {
        Self { buffer, offset, bytes: Some(bytes) }
    }
}

impl<'a> From<&'a GpuBuffer> for Slice<'a> {
    fn from(buffer: &'a GpuBuffer) -> Self {
        Self { buffer, offset: 0, bytes: None }
    }
}

/// What stands at a binding of a shader.
pub enum Binding<'a> {
    /// Parameters that stay as recorded.
    Parameters(Vec<u8>),
    /// Parameters in a buffer that the host rewrites.
    ParameterBuffer(&'a GpuBuffer),
    /// A storage buffer that the shader reads.
    Read(Slice<'a>),
    /// A storage buffer that the shader writes.
    Write(Slice<'a>),
}

impl Binding<'_> {
    fn kind(&self, context: &Context) -> wgpu::BufferBindingType {
        let stored = context.dialect().stores_parameters;
        match self {
            Self::Parameters(_) | Self::ParameterBuffer(_) if !stored => {
                wgpu::BufferBindingType::Uniform
            }
            _ => wgpu::BufferBindingType::Storage { read_only: !matches!(self, Self::Write(_)) },
        }
    }
}

/// How buffers of parameters are used.
pub const PARAMETERS: wgpu::BufferUsages = wgpu::BufferUsages::UNIFORM
    .union(wgpu::BufferUsages::STORAGE)
    .union(wgpu::BufferUsages::COPY_DST);

/// Parameters of a shader as bytes, one word each.
pub fn parameters(words: &[Word]) -> Binding<'static> {
    let bytes = words.iter().flat_map(|word| match word {
        Word::U32(number) => number.to_le_bytes(),
        Word::F32(number) => number.to_le_bytes(),
    });
    Binding::Parameters(bytes.collect())
}

/// A member of a shader's parameters.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    /// A count or an index.
    U32(u32),
    /// A number.
    F32(f32),
}

impl From<usize> for Word {
    /// Sizes of a model fit 32 bits, which its configuration has shown.
    fn from(number: usize) -> Self {
        Self::U32(u32::try_from(number).expect("sizes fit 32 bits"))
    }
}

impl From<f32> for Word {
    fn from(number: f32) -> Self {
        Self::F32(number)
    }
}

/// Pipelines by variant, shared by all recordings of a device.
#[derive(Clone, Default)]
pub struct Pipelines {
    pipelines: HashMap<Variant, (wgpu::ComputePipeline, wgpu::BindGroupLayout)>,
}

impl Pipelines {
    fn get(
        &mut self,
        context: &Context,
        variant: &Variant,
        kinds: &[(u32, wgpu::BufferBindingType)],
    ) -> (wgpu::ComputePipeline, wgpu::BindGroupLayout) {
        if let Some(pipeline) = self.pipelines.get(variant) {
            return pipeline.clone();
        }
        let label = variant.label();
        let device = &context.device;
        let entries: Vec<_> = kinds
            .iter()
            .map(|&(binding, ty)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty,
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(&label),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let source = variant.source(context.dialect());
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        };
        let checks = wgpu::ShaderRuntimeChecks {
            bounds_checks: context.checks_indices || !variant.streams_weights(),
            force_loop_bounding: context.bounds_loops && !variant.streams_weights(),
            ..Default::default()
        };
        // SAFETY: every loop of the shaders counts up or down to a bound, and indices stay checked but for those of
        // products of one row where the driver checks them as well.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every shader writes workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        self.pipelines.insert(variant.clone(), (pipeline.clone(), layout.clone()));
        (pipeline, layout)
    }
}

struct Described<'a> {
    label: String,
    variant: Variant,
    bindings: Vec<(u32, Binding<'a>)>,
    workgroups: Workgroups,
}

/// Collects dispatches.
#[derive(Default)]
pub struct Recorder<'a> {
    described: Vec<Described<'a>>,
}

impl<'a> Recorder<'a> {
    /// Adds a dispatch.
    pub fn dispatch(
        &mut self,
        label: impl Into<String>,
        variant: Variant,
        bindings: Vec<(u32, Binding<'a>)>,
        grid: Grid,
    ) {
        let workgroups = Workgroups::Counted(grid);
        self.described.push(Described { label: label.into(), variant, bindings, workgroups });
    }

    /// Adds a dispatch whose numbers of workgroups stand at the start of `buffer` by then.
    pub fn dispatch_indirect(
        &mut self,
        label: impl Into<String>,
        variant: Variant,
        bindings: Vec<(u32, Binding<'a>)>,
        buffer: &GpuBuffer,
    ) {
        let workgroups = Workgroups::Indirect(buffer.buffer.clone());
        self.described.push(Described { label: label.into(), variant, bindings, workgroups });
    }

    /// Dispatches so far.
    pub fn len(&self) -> usize {
        self.described.len()
    }

    /// Whether there is no dispatch yet.
    pub fn is_empty(&self) -> bool {
        self.described.is_empty()
    }

    /// Makes pipelines and bind groups.
    pub fn finish(self, context: &Context, pipelines: &mut Pipelines) -> Recording {
        let alignment = context.parameter_alignment();
        let mut arena = Vec::new();
        let mut places = Vec::new();
        for described in &self.described {
            for (_, binding) in &described.bindings {
                if let Binding::Parameters(bytes) = binding {
                    arena.resize(arena.len().next_multiple_of(alignment), 0);
                    places.push((arena.len() as u64, bytes.len().next_multiple_of(16) as u64));
                    arena.extend_from_slice(bytes);
                    arena.resize(arena.len().next_multiple_of(16), 0);
                }
            }
        }
        let parameters = context.buffer("parameters", arena.len() as u64, PARAMETERS);
        context.queue.write_buffer(&parameters.buffer, 0, &arena);

        let mut places = places.into_iter();
        let dispatches = self
            .described
            .into_iter()
            .map(|described| {
                let kinds: Vec<_> = described
                    .bindings
                    .iter()
                    .map(|(i, binding)| (*i, binding.kind(context)))
                    .collect();
                let (pipeline, layout) = pipelines.get(context, &described.variant, &kinds);
                let entries: Vec<_> = described
                    .bindings
                    .iter()
                    .map(|(binding, what)| {
                        let (buffer, offset, bytes) = match what {
                            Binding::Parameters(_) => {
                                let (offset, bytes) = places.next().expect("placed above");
                                (&parameters, offset, Some(bytes))
                            }
                            Binding::ParameterBuffer(buffer) => (*buffer, 0, None),
                            Binding::Read(slice) | Binding::Write(slice) => {
                                (slice.buffer, slice.offset, slice.bytes)
                            }
                        };
                        wgpu::BindGroupEntry {
                            binding: *binding,
                            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                                buffer: &buffer.buffer,
                                offset,
                                size: bytes.and_then(wgpu::BufferSize::new),
                            }),
                        }
                    })
                    .collect();
                let bind_group = context.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(&described.label),
                    layout: &layout,
                    entries: &entries,
                });
                let Described { label, workgroups, .. } = described;
                Dispatch { label, pipeline, bind_group, workgroups }
            })
            .collect();
        Recording { dispatches, _parameters: parameters }
    }
}

struct Dispatch {
    label: String,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: Workgroups,
}

/// Dispatches ready to be encoded again and again.
pub struct Recording {
    dispatches: Vec<Dispatch>,
    _parameters: GpuBuffer,
}

impl Recording {
    /// Dispatches in it.
    pub fn len(&self) -> usize {
        self.dispatches.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty()
    }

    /// Appends the dispatches for `extent` to a pass.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, extent: Extent) {
        self.encode_part(pass, extent, 0..self.dispatches.len());
    }

    /// As [`encode`](Self::encode), but only some of the dispatches.
    pub fn encode_part(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        extent: Extent,
        part: Range<usize>,
    ) {
        for dispatch in &self.dispatches[part] {
            dispatch.encode(pass, extent);
        }
    }

    /// What has something to do for `extent`, in order: labels and indices.
    pub fn active(&self, extent: Extent) -> impl Iterator<Item = (usize, &str)> {
        let dispatches = self.dispatches.iter().enumerate();
        dispatches
            .filter(move |(_, dispatch)| dispatch.is_active(extent))
            .map(|(index, dispatch)| (index, dispatch.label.as_str()))
    }
}

impl Dispatch {
    fn is_active(&self, extent: Extent) -> bool {
        match &self.workgroups {
            Workgroups::Counted(grid) => grid(extent).is_some(),
            Workgroups::Indirect(_) => true,
        }
    }

    fn encode(&self, pass: &mut wgpu::ComputePass<'_>, extent: Extent) {
        let set = |pass: &mut wgpu::ComputePass<'_>| {
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bind_group, &[]);
        };
        match &self.workgroups {
            Workgroups::Counted(grid) => {
                if let Some([x, y, z]) = grid(extent) {
                    set(pass);
                    pass.dispatch_workgroups(x, y, z);
                }
            }
            Workgroups::Indirect(buffer) => {
                set(pass);
                pass.dispatch_workgroups_indirect(buffer, 0);
            }
        }
    }
}
