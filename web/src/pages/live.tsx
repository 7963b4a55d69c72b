import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { listen } from "../api";
import { bytes, clock, exact, number } from "../format";
import { href, setQuery, usePlace } from "../router";
import type { Flow } from "../types";
import { useBatched } from "../ui/hooks";
import { Choice, Empty, Payload, Search, Tag, Words } from "../ui/parts";
import { LifeOf } from "./device";

const kept = 2000;
const drawn = 200;

interface Line extends Flow {
  n: number;
  text: string; // what the filter looks at, in lower case
}

/** Messages and events as they flow, newest first. */
export function Live() {
  const place = usePlace();
  const [filter, setFilter] = useState(place.query.get("filter") ?? "");
  const [kind, setKind] = useState("");
  const [paused, setPaused] = useState(false);
  const [open, setOpen] = useState(false);
  const [lines, setLines] = useState<Line[]>([]);
  const [shown, show] = useState<number>();
  const count = useRef(0);
  const [missed, setMissed] = useState(0); // the server had to leave them out
  const [held, setHeld] = useState<Line[]>([]); // what came while paused, newest first
  const isPaused = useRef(paused);
  isPaused.current = paused;
  useEffect(() => setQuery("filter", filter), [filter]);
  const push = useBatched<Flow>((flows) => {
    const fresh = flows.map((f): Line => ({ ...f, n: ++count.current, text: words(f) })).reverse();
    (isPaused.current ? setHeld : setLines)((before) => [...fresh, ...before].slice(0, kept));
  }, kept);
  useEffect(
    () =>
      listen("live", { tail: "", payload: "true" }, {
        onOpen: setOpen,
        on: { message: (data) => push(data as Flow), gap: (data) => setMissed((n) => n + (data as { count: number }).count) },
      }),
    [push],
  );
  const pause = () => {
    if (paused) {
      setLines((before) => [...held, ...before].slice(0, kept));
      setHeld([]);
    }
    setPaused(!paused);
  };
  const wanted = useMemo(() => {
    const parts = filter.toLowerCase().split(/\s+/).filter(Boolean);
    return lines.filter((l) => (!kind || l.kind === kind) && parts.every((p) => l.text.includes(p))).slice(0, drawn);
  }, [lines, filter, kind]);
  return (
    <>
      <div class="title">
        <h1>Live</h1>
        <span class={`live ${open && !paused ? "on" : ""}`}>{paused ? `paused, ${number(held.length)} held back` : open ? "live" : "connecting"}</span>
        {missed > 0 && <span class="faint">{number(missed)} left out: they came faster than this page could take them</span>}
      </div>
      <div class="bar-row">
        <Search label="Filter" placeholder="Filter: user, device, type or id" value={filter} onInput={setFilter} />
        <Choice
          label="Kind"
          value={kind}
          onChange={setKind}
          options={[
            ["", "All"],
            ["inbox", "Inbox"],
            ["up", "To services"],
            ["signal", "Signals"],
            ["event", "Events"],
            ["cursor", "Acked"],
          ]}
        />
        <button type="button" onClick={pause}>
          {paused ? "Resume" : "Pause"}
        </button>
        {lines.length > 0 && (
          <button type="button" class="quiet" 
            onClick={() => {
              setLines([]);
              setMissed(0);
            }}
          >
            Clear
          </button>
        )}
      </div>
      <div class="log" role="log" aria-label="Messages" aria-live="off" tabIndex={0}>
        {wanted.map((l) => (
          <Entry key={l.n} l={l} open={shown === l.n} toggle={() => show(shown === l.n ? undefined : l.n)} />
        ))}
        {wanted.length === 0 && (
          <Empty title={lines.length > 0 ? "Nothing of what came fits the filter." : "Nothing has flowed yet."}>
            {lines.length === 0 && (
              <p>
                Send something: <code>rccs send alice/phone '{'{"hello":"world"}'}'</code>
              </p>
            )}
          </Empty>
        )}
      </div>
      <p class="faint">
        The newest {number(drawn)} that fit are shown, and {number(kept)} are kept.
      </p>
    </>
  );
}

function words(f: Flow): string {
  return [f.user, f.device, `${f.user}/${f.device}`, f.type, f.id, f.from, f.event, f.kind === "cursor" ? "acknowledged" : f.seq, f.lane].filter((w) => w !== undefined).join(" ").toLowerCase();
}

function Entry({ l, open, toggle }: { l: Line; open: boolean; toggle: () => void }) {
  return (
    <div class={`entry ${open ? "open" : ""}`}>
      <button type="button" class="line" aria-expanded={open} onClick={toggle}>
        <span class="mono faint" title={exact(l.at)}>
          {clock(l.at)}
        </span>
        <span class={`kind kind-${l.kind}`}>{l.kind}</span>
        <span class="name who">
          {l.user}/{l.device}
        </span>
        <span class="name what">
          <Words text={l.kind === "cursor" ? "acknowledged" : (l.event ?? l.type ?? "")} /> {l.id && <span class="faint">{l.id}</span>}
        </span>
        <span class="faint end">
          {l.from && <span class="wide">from {l.from} </span>}
          {l.lane && <span class={`lane lane-${l.lane}`}>{l.lane}</span>} {l.seq && l.kind !== "cursor" ? `#${l.seq}` : ""} {l.bytes ? bytes(l.bytes) : ""}
        </span>
      </button>
      {open && (
        <div class="detail">
          <p>
            <a href={href(`devices/${encodeURIComponent(l.user)}/${encodeURIComponent(l.device)}`)}>
              {l.user}/{l.device}
            </a>{" "}
            <Tag>{l.kind}</Tag> {exact(l.at)}
          </p>
          {l.payload !== undefined && <Payload value={l.payload} encoding={l.encoding} />}
          {l.id && l.kind !== "event" && <LifeOf user={l.user} id={l.id} />}
        </div>
      )}
    </div>
  );
}
