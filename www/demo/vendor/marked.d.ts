// dist/demo/vendor/marked.js is the ES module of the npm package `marked`.
export * from "marked";
