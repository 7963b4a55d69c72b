import { defineConfig } from "vitepress";
import { options, searchOptions } from "./search.js";

const page = (text, link) => ({ text, link });

export default defineConfig({
  title: "RCCS",
  description: "A durable inbox for every device of a user",
  srcDir: ".stage",
  outDir: "dist",
  cleanUrls: false,
  lastUpdated: false,
  // Links into the repository are not checked here; all others are.
  ignoreDeadLinks: [/^https?:/, /asyncapi\.yaml$/],
  head: [["link", { rel: "icon", href: "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><rect width='32' height='32' rx='7' fill='%232563eb'/><path d='M8 13l8 6 8-6M8 11h16v11H8z' fill='none' stroke='white' stroke-width='2' stroke-linejoin='round'/></svg>" }]],
  markdown: {
    theme: { light: "github-light", dark: "github-dark" },
    // A short piece of code, such as --data, is not broken over two lines.
    config: (md) => {
      const inline = md.renderer.rules.code_inline;
      md.renderer.rules.code_inline = (tokens, i, ...rest) => {
        if (tokens[i].content.length <= 28) tokens[i].attrJoin("class", "short");
        return inline(tokens, i, ...rest);
      };
    },
  },
  themeConfig: {
    search: { provider: "local", options: { miniSearch: { options, searchOptions } } },
    outline: { level: [2, 3], label: "On this page" },
    docFooter: { prev: "Before", next: "Next" },
    socialLinks: [{ icon: "github", link: "https://github.com/rccs-io/rccs" }],
    nav: [page("Start", "/start"), page("Concepts", "/concepts"), page("Protocol", "/protocol"), page("Runbook", "/runbook")],
    sidebar: [
      {
        text: "Start",
        items: [
          page("What RCCS is", "/start"), page("Quickstart: a web page", "/quickstart-web"), page("Quickstart: Node", "/quickstart-node"),
          page("Quickstart: Go", "/quickstart-go"), page("Quickstart: HTTP", "/quickstart-http"), page("Quickstart: NATS", "/quickstart-nats"),
        ],
      },
      { text: "Concepts", items: [page("Five ideas, with pictures", "/concepts")] },
      {
        text: "Guides",
        items: [
          page("The SDKs", "/sdk"), page("From login to token", "/enrolment"), page("Tenants", "/tenants"), page("From Centrifugo", "/from-centrifugo"),
          page("From MQTT", "/from-mqtt"), page("From the TypeScript service", "/from-typescript-service"),
        ],
      },
      {
        text: "Reference",
        items: [
          page("Protocol", "/protocol"), page("HTTP API", "/http"), page("Commands", "/commands"), page("Limits", "/limits"), page("Metrics", "/metrics"),
          page("Changes", "/changelog"),
        ],
      },
      {
        text: "Operations",
        items: [
          page("Installing", "/install"), page("Deploying", "/deploy"), page("Kubernetes", "/kubernetes"), page("Sizing", "/sizing"), page("Operating", "/operations"), page("Runbook", "/runbook"), page("A cluster", "/cluster"),
          page("The console", "/console"), page("Security", "/security"), page("Reliability", "/reliability"),
        ],
      },
      {
        text: "Internals", collapsed: true,
        items: [
          page("Architecture", "/architecture"), page("An inbox", "/inbox"), page("Benchmarks", "/benchmarks"), page("Decisions", "/adr/README"),
          page("Contributing", "/contributing"),
        ],
      },
    ],
  },
});
