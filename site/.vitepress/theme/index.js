import { nextTick, onMounted, watch } from "vue";
import { useData, useRoute } from "vitepress";
import DefaultTheme from "vitepress/theme";
import "./style.css";

let drawn = 0;

/** Draws the diagrams of the page, in the colours of its theme. */
async function draw(dark) {
  const blocks = document.querySelectorAll(".language-mermaid");
  if (blocks.length === 0) return;
  const { default: mermaid } = await import("mermaid");
  mermaid.initialize({ startOnLoad: false, theme: dark ? "dark" : "neutral", fontFamily: "inherit" });
  for (const block of blocks) {
    const source = block.querySelector("code").textContent;
    const { svg } = await mermaid.render(`diagram-${++drawn}`, source);
    let figure = block.nextElementSibling;
    if (!figure?.classList.contains("diagram")) {
      figure = document.createElement("figure");
      figure.className = "diagram";
      block.after(figure);
    }
    figure.innerHTML = svg;
    block.hidden = true; // without JavaScript the text stays
  }
}

export default {
  extends: DefaultTheme,
  setup() {
    const route = useRoute();
    const { isDark } = useData();
    const again = () => nextTick(() => draw(isDark.value));
    onMounted(again);
    watch([() => route.path, isDark], again);
  },
};
