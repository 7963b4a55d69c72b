import { useEffect, useRef, useState } from "preact/hooks";
import { call, whenUnauthorized } from "./api";
import { Audit } from "./pages/audit";
import { DevicePage } from "./pages/device";
import { Devices } from "./pages/devices";
import { Edges } from "./pages/edges";
import { Live } from "./pages/live";
import { Login } from "./pages/login";
import { Overview } from "./pages/overview";
import { Tenants } from "./pages/tenants";
import { Topics } from "./pages/topics";
import { go, href, tenant, usePlace, type Place } from "./router";
import type { Page, Tenant } from "./types";
import { say, useSaid } from "./ui/status";

const pages: [string, string, string][] = [
  ["", "Overview", "o"],
  ["devices", "Devices", "d"],
  ["live", "Live", "l"],
  ["edges", "Edges", "e"],
  ["topics", "Topics", "t"],
  ["audit", "Audit", "a"],
  ["tenants", "Tenants", "n"],
];

export function App() {
  const place = usePlace();
  const said = useSaid();
  const [keys, setKeys] = useState(false);
  useEffect(() => {
    whenUnauthorized(() => {
      if (!location.pathname.endsWith("/login")) go(href("login", { next: location.pathname + location.search }), true);
    });
  }, []);
  useKeys(() => setKeys(true));
  const section = place.segments[0] ?? "";
  useEffect(() => {
    document.title = (pages.find(([p]) => p === section)?.[1] ?? "RCCS") + " · RCCS console";
    say("");
  }, [section]);
  if (section === "login") return <Login next={place.query.get("next") ?? ""} />;
  return (
    <>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <header class="top">
        <a class="brand" href={href("")}>
          RCCS
        </a>
        <nav aria-label="Console">
          {pages.map(([p, name]) => (
            <a key={p} href={href(p)} aria-current={section === p ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <TenantChoice />
        <button type="button" class="quiet keys-button" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick={() => setKeys(true)}>
          ?
        </button>
      </header>
      <div class="status" role="status" aria-live="polite">
        {said && <p>{said}</p>}
      </div>
      <main id="main" tabIndex={-1} key={tenant()}>
        <Content place={place} />
      </main>
      {keys && <Keys onClose={() => setKeys(false)} />}
    </>
  );
}

function Content({ place }: { place: Place }) {
  const [section = "", user, device] = place.segments;
  if (section === "devices" && user !== undefined && device !== undefined) {
    return <DevicePage key={user + "/" + device} user={user} device={device} />;
  }
  switch (section) {
    case "":
      return <Overview />;
    case "devices":
      return <Devices />;
    case "live":
      return <Live />;
    case "edges":
      return <Edges />;
    case "topics":
      return <Topics />;
    case "audit":
      return <Audit />;
    case "tenants":
      return <Tenants />;
  }
  return (
    <>
      <h1>Not found</h1>
      <p>
        There is no such page. <a href={href("")}>Go to the overview</a>
      </p>
    </>
  );
}

/** Chooses the tenant to look at, where there are several. */
function TenantChoice() {
  const [names, set] = useState<string[]>([]);
  useEffect(() => {
    call<Page<Tenant>>("tenants").then(
      (page) => set(page.items.map((t) => t.name)),
      () => {}, // who may not list tenants has one
    );
  }, []);
  if (names.length < 2) return null;
  return (
    <select aria-label="Tenant" value={tenant() || "default"} onChange={(e) => go(href("", { tenant: e.currentTarget.value }))}>
      {names.map((n) => (
        <option key={n}>{n}</option>
      ))}
    </select>
  );
}

/** `/` goes to the search, `?` lists the keys, `g` and a letter goes to a page. */
function useKeys(list: () => void): void {
  const going = useRef(0);
  useEffect(() => {
    const onKey = (e: KeyboardEvent) => {
      const at = e.target as HTMLElement;
      if (e.ctrlKey || e.metaKey || e.altKey || at.closest("input, textarea, select, dialog")) return;
      if (e.key === "/") {
        const search = document.querySelector<HTMLInputElement>("[data-search]");
        if (search) {
          e.preventDefault();
          search.focus();
          search.select();
        }
      } else if (e.key === "?") {
        list();
      } else if (e.key === "g") {
        going.current = Date.now();
        return;
      } else if (Date.now() - going.current < 1500) {
        const page = pages.find(([, , key]) => key === e.key);
        if (page) go(href(page[0]));
      }
      going.current = 0;
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

function Keys({ onClose }: { onClose: () => void }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    ref.current!.showModal();
    return () => before?.focus?.();
  }, []);
  return (
    <dialog ref={ref} aria-labelledby="keys-title" onClose={onClose}>
      <h2 id="keys-title">Keyboard shortcuts</h2>
      <dl class="keys">
        <dt>
          <kbd>/</kbd>
        </dt>
        <dd>Search or filter on this page</dd>
        <dt>
          <kbd>?</kbd>
        </dt>
        <dd>This list</dd>
        {pages.map(([p, name, key]) => [
          <dt key={p}>
            <kbd>g</kbd> <kbd>{key}</kbd>
          </dt>,
          <dd>{name}</dd>,
        ])}
        <dt>
          <kbd>Esc</kbd>
        </dt>
        <dd>Close a dialog, empty the search</dd>
      </dl>
      <div class="actions">
        <button type="button" onClick={() => ref.current?.close()}>
          Close
        </button>
      </div>
    </dialog>
  );
}
