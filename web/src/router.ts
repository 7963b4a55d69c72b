import { useEffect, useState } from "preact/hooks";

/** Where the console lies: ends with "/console/", whatever prefix a proxy adds. */
const root = new URL(".", document.baseURI).pathname;

/** A place in the console: the path below its root, decoded, and the query. */
export interface Place {
  segments: string[];
  query: URLSearchParams;
}

function here(): Place {
  const below = location.pathname.startsWith(root) ? location.pathname.slice(root.length) : "";
  return {
    segments: below.split("/").filter(Boolean).map(decode),
    query: new URLSearchParams(location.search),
  };
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

/** The tenant that the console shows; "" is the default one. */
export function tenant(): string {
  return new URLSearchParams(location.search).get("tenant") ?? "";
}

/** The link to a place, relative to the page's base; it keeps the tenant. */
export function href(place: string, query: Record<string, string> = {}): string {
  const params = new URLSearchParams(query);
  const name = tenant();
  if (name && !params.has("tenant")) params.set("tenant", name);
  if (params.get("tenant") === "default") params.delete("tenant");
  const text = params.toString();
  return root + place + (text ? "?" + text : "");
}

const changed = new EventTarget();

/** Goes to a place made by href. */
export function go(to: string, replace = false): void {
  history[replace ? "replaceState" : "pushState"](null, "", to);
  changed.dispatchEvent(new Event("change"));
}

/** The place shown, kept up to date. */
export function usePlace(): Place {
  const [place, set] = useState(here);
  useEffect(() => {
    const update = () => set(here());
    changed.addEventListener("change", update);
    addEventListener("popstate", update);
    return () => {
      changed.removeEventListener("change", update);
      removeEventListener("popstate", update);
    };
  }, []);
  return place;
}

/** Follows plain clicks on links of the console without loading the page again. */
export function followLinks(): void {
  document.addEventListener("click", (e) => {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    const link = (e.target as Element).closest?.("a");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (!link.pathname.startsWith(root)) return;
    e.preventDefault();
    if (link.href !== location.href) go(link.href);
    scrollTo(0, 0);
  });
}

/** Sets a parameter of the query in place, so that a reload shows the same. */
export function setQuery(name: string, value: string): void {
  const to = new URL(location.href);
  if (value) to.searchParams.set(name, value);
  else to.searchParams.delete(name);
  history.replaceState(null, "", to);
}
