import { defineConfig } from "vite";
import preact from "@preact/preset-vite";

// Asset URLs are relative: the server writes a <base> into the page, so that
// the console works behind any path prefix. The file `.keep` lies in public/ so
// that dist/ exists in a clean checkout, which Go's embed needs.
export default defineConfig({
  base: "./",
  plugins: [preact()],
  build: {
    outDir: "dist",
    emptyOutDir: true,
    assetsInlineLimit: 0, // the Content-Security-Policy allows no data: scripts or styles
    modulePreload: false,
    target: "es2022",
  },
  server: {
    proxy: { "/v1": "http://127.0.0.1:8081" },
  },
});
