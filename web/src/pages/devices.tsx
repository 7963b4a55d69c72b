import { Component } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, call, listen } from "../api";
import { number } from "../format";
import { href, setQuery, usePlace } from "../router";
import type { Device, Page } from "../types";
import { useBatched, useDelayed } from "../ui/hooks";
import { Choice, Empty, Failure, Loading, Presence, Search, Time } from "../ui/parts";

const pageSize = 100;

/** All devices, a page at a time as one scrolls, with presence as it changes. */
export function Devices() {
  const place = usePlace();
  const [query, setQueryText] = useState(place.query.get("q") ?? "");
  const [status, setStatus] = useState(place.query.get("status") ?? "");
  const [type, setType] = useState(place.query.get("type") ?? "");
  const q = useDelayed(query.trim(), 120);
  const kind = useDelayed(type.trim(), 120);
  useEffect(() => setQuery("q", q), [q]);
  useEffect(() => setQuery("status", status), [status]);
  useEffect(() => setQuery("type", kind), [kind]);
  const list = useDevices(q, status, kind);
  return (
    <>
      <div class="title">
        <h1>Devices</h1>
        <span class="faint">{list.items.length > 0 && `${number(list.items.length)}${list.next ? "+" : ""} shown`}</span>
      </div>
      <div class="bar-row">
        <Search label="Search devices" placeholder="Search devices: part of a user or device" value={query} onInput={setQueryText} />
        <Choice
          label="Presence"
          value={status}
          onChange={setStatus}
          options={[
            ["", "All"],
            ["online", "Online"],
            ["away", "Away"],
            ["busy", "Busy"],
            ["offline", "Offline"],
          ]}
        />
        <input class="short" aria-label="Device type" placeholder="Type" value={type} onInput={(e) => setType(e.currentTarget.value)} list="types" />
        <datalist id="types">
          <option>mobile</option>
          <option>desktop</option>
          <option>extension</option>
          <option>web</option>
        </datalist>
      </div>
      <Failure error={list.error} retry={list.retry} />
      {list.items.length === 0 && list.loading && <Loading rows={12} />}
      {list.items.length === 0 && !list.loading && !list.error && (
        <Empty title={q || status || kind ? "No device fits." : "No device has registered yet."}>
          {q || status || kind ? (
            <p>Search for a part of a user's or a device's name, or take the filters away.</p>
          ) : (
            <p>
              Let one connect: <code>rccs connect alice/phone</code>
            </p>
          )}
        </Empty>
      )}
      {list.items.length > 0 && (
        <div class="scroll">
          <table aria-label="Devices">
            <thead>
              <tr>
                <th>User</th>
                <th>Device</th>
                <th>Presence</th>
                <th class="wide">Type</th>
                <th class="wide">Platform</th>
                <th class="n">Unacked</th>
                <th class="wide">Edge</th>
                <th class="wide">Last seen</th>
              </tr>
            </thead>
            <tbody>
              {list.items.map((d) => (
                <Row key={nameOf(d)} d={d} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {list.next && <More load={list.more} loading={list.loading} />}
    </>
  );
}

/** One device. It is drawn again only when it has changed: there may be thousands. */
class Row extends Component<{ d: Device }> {
  override shouldComponentUpdate(next: { d: Device }) {
    return next.d !== this.props.d;
  }

  render({ d }: { d: Device }) {
    return (
      <tr>
        <td class="name">{d.user}</td>
        <td class="name">
          <a href={href(`devices/${encodeURIComponent(d.user)}/${encodeURIComponent(d.device)}`)}>{d.device}</a>
        </td>
        <td>
          <Presence status={d.status} />
        </td>
        <td class="wide">{d.type}</td>
        <td class="wide">
          {d.platform} {d.version}
        </td>
        <td class={`n ${d.unacknowledged ? "" : "faint"}`}>{number(d.unacknowledged)}</td>
        <td class="wide">{d.edge}</td>
        <td class="wide">
          <Time at={d.lastSeen} />
        </td>
      </tr>
    );
  }
}

/** Loads more when it comes into view; it is a button for those who do not scroll. */
function More({ load, loading }: { load: () => void; loading: boolean }) {
  const ref = useRef<HTMLButtonElement>(null);
  // It tells of changes alone: who stays at the end of the page sees none, so it begins anew after each page.
  useEffect(() => {
    if (loading) return;
    const seen = new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && load(), { rootMargin: "400px" });
    seen.observe(ref.current!);
    return () => seen.disconnect();
  }, [load, loading]);
  return (
    <button ref={ref} type="button" class="more" onClick={load} disabled={loading}>
      {loading ? "Loading…" : "Show more"}
    </button>
  );
}

interface Listed {
  items: Device[];
  next?: string;
  error?: ApiError;
  loading: boolean;
}

function useDevices(q: string, status: string, type: string) {
  const [list, set] = useState<Listed>({ items: [], loading: true });
  const [turn, again] = useState(0);
  const under = useRef<AbortController | undefined>(undefined);
  const current = useRef(list);
  current.current = list;
  const load = useCallback(
    async (after?: string) => {
      under.current?.abort();
      const ended = (under.current = new AbortController());
      set((l) => ({ ...l, loading: true, error: undefined }));
      try {
        const page = await call<Page<Device>>("devices", { query: { q, status, type, limit: pageSize, after }, signal: ended.signal });
        set((l) => ({ items: after === undefined ? page.items : [...l.items, ...page.items], next: page.next, loading: false }));
      } catch (error) {
        if (!ended.signal.aborted) set((l) => ({ ...l, loading: false, error: error as ApiError }));
      }
    },
    [q, status, type],
  );
  useEffect(() => {
    void load();
    return () => under.current?.abort();
  }, [load, turn]);
  // A server that starts or cannot be reached may answer a moment later.
  const waits = list.error !== undefined && [0, 503].includes(list.error.status);
  useEffect(() => {
    if (!waits) return;
    const timer = setTimeout(() => again((n) => n + 1), 3000);
    return () => clearTimeout(timer);
  }, [waits, turn]);
  // After a restart all devices come at once.
  const push = useBatched<Moved>((all) => set((l) => moved(l, all)), Infinity);
  useEffect(
    () =>
      listen("events", {}, {
        on: Object.fromEntries(["online", "offline", "forgotten"].map((kind) => [kind, (data: unknown) => push(data as Moved)])),
      }),
    [push],
  );
  const more = useCallback(() => {
    const { next, loading } = current.current;
    if (next && !loading) void load(next);
  }, [load]);
  return { ...list, more, retry: () => again((n) => n + 1) };
}

interface Moved {
  kind: string;
  user: string;
  device: string;
  at: string;
  edge?: string;
}

const nameOf = (d: { user: string; device: string }) => d.user + "\0" + d.device;

/** The list after these events: the last one of each device counts. */
function moved(l: Listed, all: Moved[]): Listed {
  const last = new Map(all.map((m) => [nameOf(m), m]));
  let changed = false;
  const items = l.items.flatMap((d) => {
    const m = last.get(nameOf(d));
    if (!m) return [d];
    changed = true;
    return m.kind === "forgotten" ? [] : [{ ...d, status: m.kind, lastSeen: m.at, edge: m.kind === "offline" ? undefined : m.edge }];
  });
  return changed ? { ...l, items } : l;
}
