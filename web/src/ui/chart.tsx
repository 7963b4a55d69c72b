import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

interface Series {
  label: string;
  /** A CSS variable that holds the colour. */
  colour: string;
}

interface Props {
  title: string;
  /** Seconds, then a row for each series. */
  data: (number | null)[][];
  series: Series[];
  format: (n: number) => string;
}

const height = 140;

/** Lines over time. The legend has the newest values; the figure beside it says them in words. */
export function Chart({ title, data, series, format }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const newest = useRef(data);
  newest.current = data;
  useEffect(() => {
    const box = place.current!;
    const make = () => {
      plot.current?.destroy();
      const style = getComputedStyle(document.documentElement);
      const colour = (name: string) => style.getPropertyValue(name).trim();
      const axis = {
        stroke: colour("--faint"),
        grid: { stroke: colour("--line"), width: 1 },
        ticks: { show: false },
        font: "11px system-ui, sans-serif",
      };
      plot.current = new uPlot(
        {
          width: Math.max(200, box.clientWidth),
          height,
          padding: [8, 24, 0, 0],
          legend: { show: false },
          cursor: { y: false, points: { size: 6 } },
          scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
          axes: [
            { ...axis, size: 28, space: 60, values: [[60, "{HH}:{mm}", null, null, null, null, null, null, 0], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 0]] },
            { ...axis, size: 58, space: 30, values: (_, values) => values.map((v) => (v === null ? "" : format(v))) },
          ],
          series: [
            {},
            ...series.map((s) => ({ label: s.label, stroke: colour(s.colour), width: 1.5, points: { show: false }, spanGaps: false })),
          ],
        },
        newest.current as uPlot.AlignedData,
        box,
      );
    };
    make();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: Math.max(200, box.clientWidth), height }));
    resized.observe(box);
    const theme = matchMedia("(prefers-color-scheme: dark)");
    theme.addEventListener("change", make);
    return () => {
      resized.disconnect();
      theme.removeEventListener("change", make);
      plot.current?.destroy();
    };
  }, [series]);
  useEffect(() => plot.current?.setData(data as uPlot.AlignedData), [data]);
  const last = (row: (number | null)[] | undefined) => row?.[row.length - 1] ?? null;
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        <span class="legend">
          {series.map((s, i) => {
            const value = last(data[i + 1]);
            return (
              <span key={s.label} class={`key key-${s.colour.slice(2)}`}>
                <span class="swatch" aria-hidden="true" />
                {s.label} <b>{value === null ? "–" : format(value)}</b>
              </span>
            );
          })}
        </span>
      </figcaption>
      <div ref={place} class="plot" aria-hidden="true" />
    </figure>
  );
}
