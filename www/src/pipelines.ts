/**
 * Compute pipelines compiled in parallel. wgpu knows only `createComputePipeline`, by which browsers compile one
 * pipeline after the other, and nothing else meanwhile.
 */

/** Stands for a pipeline until it is there. */
class LatePipeline {
  pipeline: GPUComputePipeline | undefined;
}

/** An error scope, with the pipelines that are compiled within it. */
interface Scope {
  readonly filter: GPUErrorFilter;
  readonly pipelines: Promise<Error | undefined>[];
}

/**
 * Makes `device` compile the pipelines that are created within a validation scope in parallel: such a pipeline may be
 * used once the scope has answered, which waits for it and tells why it could not be made. Others are as ever.
 */
export function compileInParallel(device: GPUDevice): void {
  const scopes: Scope[] = [];
  const push = device.pushErrorScope.bind(device);
  const pop = device.popErrorScope.bind(device);
  const create = device.createComputePipeline.bind(device);

  device.pushErrorScope = (filter) => {
    scopes.push({ filter, pipelines: [] });
    push(filter);
  };

  device.popErrorScope = async () => {
    const popped = pop();
    const pipelines = scopes.pop()?.pipelines ?? [];
    const [error, ...failures] = await Promise.all([popped, ...pipelines]);
    const failure = failures.find((failed) => failed !== undefined);
    return error ?? (failure === undefined ? null : new GPUValidationError(failure.message));
  };

  device.createComputePipeline = (descriptor) => {
    const scope = scopes.findLast(({ filter }) => filter === "validation");
    if (scope === undefined) return create(descriptor);
    const late = new LatePipeline();
    const compiled = device.createComputePipelineAsync(descriptor).then(
      (pipeline) => {
        late.pipeline = pipeline;
        return undefined;
      },
      (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
    );
    scope.pipelines.push(compiled);
    return late as unknown as GPUComputePipeline;
  };
}

/** Makes passes take what stands for a pipeline by then. */
export function takeLatePipelines(passClass: { readonly prototype: GPUComputePassEncoder } | undefined): void {
  if (passClass === undefined) return;
  const { prototype } = passClass;
  const { setPipeline } = prototype;
  prototype.setPipeline = function (this: GPUComputePassEncoder, pipeline: GPUComputePipeline | LatePipeline) {
    const found = pipeline instanceof LatePipeline ? pipeline.pipeline : pipeline;
    if (found === undefined) throw new Error("a pipeline is used that is not there");
    return setPipeline.call(this, found);
  };
}
