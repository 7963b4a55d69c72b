// A small stand-in for the editor's extension host, for the test: what the extension calls of `vscode`, and nothing else.
//   node host.js DIRECTORY CREDENTIALS URL
// Prints what the user would see, a line of JSON each. A line of input chooses an answer of the last message, or runs a command.
import { mkdirSync, readFileSync, writeFileSync, existsSync } from "node:fs";
import { register } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [directory, credentials, url] = process.argv.slice(2);
const show = (what) => console.log(JSON.stringify(what));
const disposable = { dispose() {} };
const commands = new Map();
const documents = [];
let answer = () => {};

globalThis.vscode = {
  version: "1.101.0",
  StatusBarAlignment: { Left: 1, Right: 2 },
  commands: { registerCommand: (name, run) => (commands.set(name, run), disposable) },
  window: {
    createStatusBarItem: () => ({ ...disposable, hide: () => show({ status: "" }), show() { show({ status: this.text }); } }),
    showInformationMessage: (message, ...choices) => (show({ message, choices }), new Promise((resolve) => (answer = resolve))),
    showErrorMessage: (error) => show({ error }),
    showOpenDialog: async () => [pathToFileURL(credentials)],
    showTextDocument: async ({ text }) => show({ document: text }),
  },
  workspace: {
    fs: { readFile: async (file) => readFileSync(file) },
    getConfiguration: () => ({ get: () => url }),
    openTextDocument: async ({ content, language }) => {
      const document = { fileName: `Untitled-${documents.length + 1}`, languageId: language, text: content };
      documents.push(document);
      return document;
    },
    textDocuments: documents,
  },
};
const hooks = `export const resolve = (name, context, next) => name === "vscode"
  ? { shortCircuit: true, url: "data:text/javascript,export const { commands, window, workspace, version, StatusBarAlignment } = globalThis.vscode" }
  : next(name, context)`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);

mkdirSync(directory, { recursive: true });
const kept = join(directory, "secrets.json"); // VS Code keeps them in the system's key store
const secrets = existsSync(kept) ? JSON.parse(readFileSync(kept, "utf8")) : {};
const save = () => writeFileSync(kept, JSON.stringify(secrets), { mode: 0o600 });
const context = {
  subscriptions: [],
  globalStorageUri: { fsPath: join(directory, "storage") },
  secrets: { get: async (k) => secrets[k], store: async (k, v) => void ((secrets[k] = v), save()), delete: async (k) => void (delete secrets[k], save()) },
};

const manifest = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8"));
const extension = await import(new URL(manifest.main, import.meta.url).href);
await extension.activate(context);
for (const { command } of manifest.contributes.commands) if (!commands.has(command)) throw new Error(`the manifest promises ${command}`);
show({ activated: true });
for await (const line of createInterface({ input: process.stdin })) {
  if (commands.has(line)) void commands.get(line)();
  else answer(line || undefined);
}
await extension.deactivate();
