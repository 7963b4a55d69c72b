import { defineConfig } from "vitest/config";

// Everything is tested as it is built: "@rccs/client" is this package, by its own exports.
const project = (name: string, more = {}) => ({
  test: { name, include: [`test/${name}/**/*.test.{ts,tsx}`], testTimeout: 180_000, hookTimeout: 240_000, ...more },
});

export default defineConfig({
  test: { projects: [project("unit"), project("node", { testTimeout: 600_000, fileParallelism: false }), project("browser", { testTimeout: 600_000, fileParallelism: false })] },
});
