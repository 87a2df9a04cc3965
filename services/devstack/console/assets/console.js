// Keeps the page current: loads each panel again and again and replaces those
// whose markup has changed. The markup is escaped by the console's templates.
"use strict";

(() => {
  const refreshMillis = Number(document.body.dataset.refreshMs);
  const panels = [...document.querySelectorAll("[data-panel]")];
  const loadedMarkup = new Map(), requests = new Map(), spans = new Map(), failing = new Set();
  const offline = document.getElementById("offline");
  const pause = document.getElementById("pause");
  const filter = document.getElementById("filter");
  const focusable = "summary, button, input, select, a[href], [tabindex]";
  let paused = false, unavailableSince;

  const span = (seconds) => {
    const s = Math.max(0, Math.round(seconds));
    if (s < 60) { return s + " s"; }
    if (s < 3600) { return Math.floor(s / 60) + " min " + (s % 60 && s < 600 ? (s % 60) + " s" : ""); }
    if (s < 172800) { return Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min"; }
    return Math.floor(s / 86400) + " days";
  };

  // showRelativeTimes updates texts such as "5 s ago".
  function showRelativeTimes() {
    for (const t of document.querySelectorAll("time[data-rel]")) {
      const seconds = (Date.now() - Date.parse(t.dateTime)) / 1000;
      const future = seconds > 0 ? "due now" : "in " + span(-seconds);
      const text = t.dataset.rel === "ago" ? span(seconds) + " ago" : future;
      if (!t.title) { t.title = t.textContent; }
      if (t.textContent !== text) { t.textContent = text; }
    }
  }

  // keyOf names a details element: a trace can be listed twice.
  const keyOf = (d) => d?.id || (d ? d.closest("#failed, .group").id + " " + d.dataset.trace : undefined);

  // replace sets a panel's markup and restores what was open, scrolled or in
  // focus there.
  function replace(panel, html) {
    const open = new Set([...panel.querySelectorAll("details[open]")].map(keyOf));
    const inside = [...panel.querySelectorAll(focusable)];
    const focus = inside.indexOf(document.activeElement);
    const owner = focus >= 0 ? keyOf(document.activeElement.closest("details")) : undefined;
    const scrolled = [...panel.querySelectorAll(".scroll")]
      .map((s) => [keyOf(s.closest("details")), s.scrollTop]);
    const read = [...panel.querySelectorAll("details.trace[open]")].map((d) => [keyOf(d), d.parentElement.id, d]);
    panel.innerHTML = html;
    // An open trace stays while it is read, also when newer ones have pushed it out of the list.
    const listed = new Set([...panel.querySelectorAll("details")].map(keyOf));
    for (const [key, group, d] of read) {
      if (!listed.has(key)) { document.getElementById(group)?.append(d); }
    }
    for (const d of panel.querySelectorAll("details")) {
      d.open = open.has(keyOf(d));
      if (d.open) { showSpans(d); }
    }
    panel.querySelectorAll(".scroll").forEach((s, i) => {
      if (scrolled[i] && scrolled[i][0] === keyOf(s.closest("details"))) { s.scrollTop = scrolled[i][1]; }
    });
    if (focus >= 0) {
      const ownerNow = owner && [...panel.querySelectorAll("details")].find((d) => keyOf(d) === owner);
      (ownerNow?.querySelector("summary") || panel.querySelectorAll(focusable)[focus])?.focus({ preventScroll: true });
    }
    showRelativeTimes();
  }

  async function get(path) {
    const r = await fetch(path, { cache: "no-cache" });
    if (!r.ok) { throw new Error(path + " answered " + r.status); }
    // Another account has signed in, or nobody is any more: the whole page is another.
    const viewer = r.headers.get("Purser-Viewer");
    if (viewer !== null && viewer !== document.body.dataset.viewer) {
      if (location.pathname === "/") { location.reload(); } else { location.replace("/"); }
    }
    return r;
  }

  // showSpans loads the spans of an open trace.
  async function showSpans(d) {
    const into = d.querySelector(":scope > [data-spans]");
    if (!into || into.childElementCount > 0) { return; }
    const id = d.dataset.trace;
    if (!spans.has(id)) {
      try {
        spans.set(id, await (await get("/trace/" + id)).text());
      } catch {
        into.textContent = "The trace is no longer stored.";
        return;
      }
    }
    into.innerHTML = spans.get(id);
  }

  async function refresh(panel) {
    const request = (requests.get(panel) ?? 0) + 1;
    requests.set(panel, request);
    const query = panel.dataset.filter ? "?" + new URLSearchParams(new FormData(filter)) : "";
    const html = await (await get("/panel/" + panel.dataset.panel + query)).text();
    if (requests.get(panel) !== request || loadedMarkup.get(panel) === html) { return; }
    loadedMarkup.set(panel, html);
    replace(panel, html);
  }

  // attempt notes whether a part of the page could be loaded.
  async function attempt(part, load) {
    try {
      await load();
      failing.delete(part);
    } catch {
      failing.add(part);
    }
    unavailableSince = failing.size === 0 ? undefined : unavailableSince ?? new Date();
    offline.hidden = failing.size === 0;
    if (unavailableSince) {
      offline.textContent = "The suite is unavailable since " + unavailableSince.toLocaleTimeString() +
        "; the page shows its last data.";
    }
  }

  // While the suite tells of other values, the panels that show it are loaded when it does, and rarely besides, for
  // what else they show. A hidden page has no such connection: a browser allows only a few to one host.
  const ofValue = panels.filter((p) => "live" in p.dataset);
  let live;
  const told = (part) => live?.readyState === EventSource.OPEN && ofValue.includes(part);
  const loadValue = () => {
    if (!paused) { for (const p of ofValue) { attempt(p, () => refresh(p)); } }
  };
  function follow() {
    live?.close();
    live = undefined;
    if (document.hidden || paused || ofValue.length === 0) { return; }
    const own = live = new EventSource("/live");
    own.addEventListener("value", loadValue);
    own.addEventListener("error", () => {
      if (own !== live) { return; }
      loadValue();
      if (own.readyState === EventSource.CLOSED) { setTimeout(() => own === live && follow(), 5 * refreshMillis); }
    });
  }
  document.addEventListener("visibilitychange", follow);

  // poll loads one part of the page again and again, so that a slow one delays no other.
  async function poll(part, load, turn = 0) {
    if (!paused && !document.hidden && (!told(part) || turn % 10 === 0)) { await attempt(part, load); }
    setTimeout(poll, refreshMillis, part, load, turn + 1);
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Paused" : "Pause";
    follow();
  });

  document.querySelector("#currency select")?.addEventListener("change", (e) => e.target.form.submit());

  if (filter) {
    const traces = document.getElementById("traces");
    const apply = () => {
      history.replaceState(null, "", "/?" + new URLSearchParams(new FormData(filter)));
      return attempt(traces, () => refresh(traces));
    };
    filter.addEventListener("input", apply);
    filter.addEventListener("submit", (e) => { e.preventDefault(); apply(); });
  }

  document.addEventListener("toggle", (e) => {
    const d = e.target;
    if (!d.matches("details.trace")) { return; }
    if (d.open) { showSpans(d); } else { spans.delete(d.dataset.trace); }
  }, true);

  document.addEventListener("click", async (e) => {
    const button = e.target.closest("[data-copy]");
    if (!button) { return; }
    await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });

  // Of the traces, one that reached the most services is open.
  const rows = [...document.querySelectorAll(".group details.trace")];
  const opened = rows.reduce((a, b) => (a && +a.dataset.services >= +b.dataset.services ? a : b), undefined);
  if (opened) {
    opened.closest(".group").open = true;
    opened.open = true;
  }

  setInterval(showRelativeTimes, 1000);
  showRelativeTimes();
  follow();
  for (const panel of panels) { poll(panel, () => refresh(panel)); }
  poll("charts", async () => charts.show(await (await get("/charts.json")).json()));
})();
