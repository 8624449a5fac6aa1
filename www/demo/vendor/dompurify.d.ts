// dist/demo/vendor/dompurify.js is the ES module of the npm package `dompurify`.
export { default } from "dompurify";
