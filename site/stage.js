// Copies what the site is made of to .stage: docs/, the pages of the root, and
// the reference of the commands that bin/rccs writes of itself. Links are
// turned into those of the site, or of the repository for what is not in it.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { options, searchOptions } from "./.vitepress/search.js";

// The pages make these functions from their text again.
for (const f of [options.tokenize, searchOptions.fuzzy, searchOptions.boostDocument]) {
  new Function(`return ${f}`)()("/runbook.html#queue");
}

const site = dirname(fileURLToPath(import.meta.url));
const root = join(site, "..");
const stage = join(site, ".stage");
const repository = "https://github.com/rccs-io/rccs/blob/main/";

// Pages of the root, and what they are called on the site.
const pages = { "ARCHITECTURE.md": "architecture.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md" };

rmSync(stage, { recursive: true, force: true });
mkdirSync(stage, { recursive: true });
cpSync(join(root, "docs"), stage, { recursive: true });
for (const [from, to] of Object.entries(pages)) {
  writeFileSync(join(stage, to), readFileSync(join(root, from)));
}
cpSync(join(site, "index.md"), join(stage, "index.md"));
mkdirSync(join(stage, "public"), { recursive: true });
const program = join(root, "bin", "rccs");
if (!existsSync(program)) throw new Error(`${program} is missing: run make build first`);
execFileSync(program, ["reference", "--markdown", join(stage, "commands.md")]);

/** Where a link of a page leads: to a page of the site, or into the repository. */
function resolve(page, href) {
  if (/^([a-z]+:|#|\/)/.test(href)) return href;
  const [path, hash = ""] = href.split(/(?=#)/);
  const source = Object.entries(pages).find(([, to]) => to === page);
  const from = source ? "" : join("docs", dirname(page));
  const target = normalize(join(from, path)).replace(/\/$/, "");
  if (pages[target]) return link(page, pages[target]) + hash;
  const inside = relative("docs", target);
  if (!inside.startsWith("..") && existsSync(join(stage, inside)) && /\.(md|png|svg|yaml)$/.test(inside)) {
    return link(page, inside) + hash;
  }
  return repository.replace("/blob/", /\.[a-z]+$/i.test(target) ? "/blob/" : "/tree/") + target + hash;
}

/** A link from one page of the site to another. */
function link(page, to) {
  const way = relative(dirname(page), to);
  return way.startsWith(".") ? way : `./${way}`;
}

function walk(dir) {
  for (const entry of readdirSync(join(stage, dir), { withFileTypes: true })) {
    const name = join(dir, entry.name);
    if (entry.isDirectory()) walk(name);
    else if (name.endsWith(".md")) rewrite(name);
  }
}

function rewrite(name) {
  const path = join(stage, name);
  let fenced = false;
  const text = readFileSync(path, "utf8").split("\n").map((line) => {
    if (/^\s*```/.test(line)) fenced = !fenced;
    if (fenced) return line;
    return line
      .replace(/\]\(([^)\s]+)\)/g, (_, href) => `](${resolve(name, href)})`)
      // What looks like a tag or a template outside of code is text.
      .split(/(`[^`]*`)/).map((part) => (part.startsWith("`") ? part.replaceAll("{{", "{\u200b{") : part.replace(/<(?=[A-Z a-z]+>)(?!br>|!--)/g, "&lt;"))).join("");
  }).join("\n");
  writeFileSync(path, text);
}

walk(".");
if (existsSync(join(stage, "asyncapi.yaml"))) cpSync(join(stage, "asyncapi.yaml"), join(stage, "public", "asyncapi.yaml"));
