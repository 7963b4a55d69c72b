import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { ApiError } from "../api";
import { exact, payload as shown, relative, visible } from "../format";
import { useNow } from "./hooks";

/** A time, relative to now, with the exact one on hover and for programs. */
export function Time({ at }: { at?: string }) {
  const text = useNow((now) => (!at || at.startsWith("0001") ? undefined : relative(at, now)));
  if (!at || text === undefined) return <span class="faint">–</span>;
  return (
    <time dateTime={at} title={exact(at)}>
      {text}
    </time>
  );
}

/** What failed, and a way to try again. */
export function Failure({ error, retry }: { error?: ApiError; retry?: () => void }) {
  if (!error) return null;
  return (
    <div class="failure" role="alert">
      <p>
        <strong>{error.code}</strong> {error.message}
      </p>
      {retry && (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <div class="empty-text">{children}</div>}
    </div>
  );
}

/** Grey bars where rows will be, so that nothing moves when they come. */
export function Loading({ rows = 5 }: { rows?: number }) {
  return (
    <div class="loading" aria-label="Loading" role="img">
      {Array.from({ length: rows }, (_, i) => (
        <div key={i} class="bar" />
      ))}
    </div>
  );
}

/** A presence as a dot and a word; colour is never the only sign. */
export function Presence({ status }: { status: string }) {
  return (
    <span class={`presence is-${status}`}>
      <span class="dot" aria-hidden="true" />
      {status}
    </span>
  );
}

/** A name that may be long: it is broken behind its own separators first, and within a word only where nothing else fits. */
export function Words({ text }: { text: string }) {
  return (
    <>
      {visible(text)
        .split(/(?<=[_.:/-])/)
        .flatMap((part, i) => (i > 0 ? [<wbr key={i} />, part] : [part]))}
    </>
  );
}

export function Tag({ kind, children }: { kind?: string; children: ComponentChildren }) {
  return <span class={`tag ${kind ? `tag-${kind}` : ""}`}>{children}</span>;
}

export function Search(props: { label: string; value: string; onInput: (value: string) => void; placeholder?: string; onEnter?: () => void }) {
  return (
    <input
      class="search"
      type="search"
      aria-label={props.label}
      placeholder={props.placeholder ?? props.label}
      value={props.value}
      spellcheck={false}
      autocomplete="off"
      autocapitalize="off"
      data-search
      onInput={(e) => props.onInput(e.currentTarget.value)}
      onKeyDown={(e) => {
        if (e.key === "Enter") props.onEnter?.();
        if (e.key === "Escape" && props.value !== "") {
          e.preventDefault();
          props.onInput("");
        }
      }}
    />
  );
}

/** A value of a payload: JSON, text, bytes or that it is sealed. */
export function Payload({ value, encoding }: { value: unknown; encoding?: string }) {
  const p = shown(value, encoding);
  if (p.kind === "none") return <p class="faint">No payload is shown here.</p>;
  return (
    <div class="payload">
      <Tag>{p.kind}</Tag>
      <pre tabIndex={0}>{p.text}</pre>
    </div>
  );
}

/** A small number of choices, as radio buttons in a row. */
export function Choice({ label, value, options, onChange }: { label: string; value: string; options: [string, string][]; onChange: (v: string) => void }) {
  const name = useId();
  return (
    <fieldset class="choice">
      <legend class="hidden">{label}</legend>
      {options.map(([v, text]) => (
        <label key={v} class={v === value ? "chosen" : ""}>
          <input type="radio" name={name} value={v} checked={v === value} onChange={() => onChange(v)} />
          {text}
        </label>
      ))}
    </fieldset>
  );
}

interface DialogProps {
  title: string;
  confirm: string;
  danger?: boolean;
  /** Nothing can be confirmed yet, or at all. */
  blocked?: boolean;
  onConfirm: () => Promise<void>;
  onClose: () => void;
  children: ComponentChildren;
}

/**
 * A question before something is done. The browser keeps the focus inside,
 * ends it at Escape, and gives the focus back to where it was.
 */
export function Dialog(props: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  useEffect(() => {
    const dialog = ref.current!;
    const before = document.activeElement as HTMLElement | null;
    dialog.showModal();
    return () => {
      if (dialog.open) dialog.close();
      before?.focus?.();
    };
  }, []);
  const confirm = async () => {
    setBusy(true);
    setError(undefined);
    try {
      await props.onConfirm();
      props.onClose();
    } catch (e) {
      setError(e instanceof ApiError ? e : new ApiError(0, "FAILED", String(e)));
      setBusy(false);
    }
  };
  return (
    <dialog ref={ref} aria-labelledby={id} onClose={props.onClose}>
      <form
        method="dialog"
        onSubmit={(e) => {
          e.preventDefault();
          if (!busy && !props.blocked) void confirm();
        }}
      >
        <h2 id={id}>{props.title}</h2>
        <div class="dialog-body">{props.children}</div>
        <Failure error={error} />
        <div class="actions">
          <button type="button" onClick={() => ref.current?.close()}>
            Cancel
          </button>
          <button type="submit" class={props.danger ? "danger" : "primary"} disabled={busy || props.blocked}>
            {props.confirm}
          </button>
        </div>
      </form>
    </dialog>
  );
}

/** A bar of how much of a limit is used. */
export function Meter({ used, limit, label }: { used: number; limit: number; label: string }) {
  const share = limit > 0 ? Math.min(1, used / limit) : 0;
  return <meter class={share > 0.9 ? "full" : share > 0.75 ? "high" : ""} min={0} max={1} value={share} aria-label={label} />;
}
