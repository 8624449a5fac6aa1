/**
 * Request handlers for the AWS SDK for JavaScript, `pesi/aws`: its clients then ask a model in the page.
 *
 * ```ts
 * import { load } from "pesi";
 * import { bedrockHandler } from "pesi/aws";
 * import { BedrockRuntimeClient } from "@aws-sdk/client-bedrock-runtime";
 *
 * const model = await load("openai/gpt-oss-20b");
 * const client = new BedrockRuntimeClient({
 *   region: "us-west-2",
 *   credentials: { accessKeyId: "none", secretAccessKey: "none" },
 *   requestHandler: bedrockHandler({ "openai.gpt-oss-20b-1:0": model }),
 * });
 * ```
 *
 * Those clients do not tell when a loop over a stream is left: abort the command to cancel the answer.
 */

export { bedrockHandler } from "./bedrock.js";
export { sagemakerHandler } from "./sagemaker.js";
export type { AwsModel, AwsModels, AwsRequest, AwsRequestHandler, AwsResponse } from "./http.js";
