// Keeps the page current: loads each panel again and again and replaces those
// whose markup has changed. The markup is escaped by the console's templates.
"use strict";

(() => {
  const refreshMillis = Number(document.body.dataset.refreshMs);
  const panels = [...document.querySelectorAll("[data-panel]")];
  const loadedMarkup = new Map();
  const offline = document.getElementById("offline");
  const pause = document.getElementById("pause");
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

  // replace sets a panel's markup and restores what was open, scrolled or in
  // focus there.
  function replace(panel, html) {
    const open = new Set([...panel.querySelectorAll("details[open]")].map((d) => d.id));
    const inside = [...panel.querySelectorAll("summary, [tabindex]")];
    const focus = inside.indexOf(document.activeElement);
    const owner = focus >= 0 ? document.activeElement.closest("details")?.id : undefined;
    const scrolled = [...panel.querySelectorAll(".scroll")]
      .map((s) => [s.closest("details")?.id, s.scrollLeft, s.scrollTop]);
    panel.innerHTML = html;
    for (const d of panel.querySelectorAll("details")) { d.open = open.has(d.id); }
    panel.querySelectorAll(".scroll").forEach((s, i) => {
      if (scrolled[i] && scrolled[i][0] === s.closest("details")?.id) {
        [, s.scrollLeft, s.scrollTop] = scrolled[i];
      }
    });
    if (focus >= 0) {
      const now = [...panel.querySelectorAll("summary, [tabindex]")];
      const summary = owner && document.getElementById(owner)?.querySelector("summary");
      (summary || now[focus])?.focus({ preventScroll: true });
    }
    showRelativeTimes();
  }

  async function get(path) {
    const r = await fetch(path, { cache: "no-cache" });
    if (!r.ok) { throw new Error(path + " answered " + r.status); }
    return r;
  }

  async function refresh() {
    try {
      await Promise.all(panels.map(async (panel) => {
        const html = await (await get("/panel/" + panel.dataset.panel)).text();
        if (loadedMarkup.get(panel) !== html) { loadedMarkup.set(panel, html); replace(panel, html); }
      }));
      chart.show(await (await get("/value.json")).json());
      unavailableSince = undefined;
      offline.hidden = true;
    } catch {
      unavailableSince ??= new Date();
      offline.textContent = "The suite is unavailable since " + unavailableSince.toLocaleTimeString() +
        "; the page shows its last data.";
      offline.hidden = false;
    }
  }

  async function poll() {
    if (!paused && !document.hidden) { await refresh(); }
    setTimeout(poll, refreshMillis);
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Paused" : "Pause";
  });
  const traces = [...document.querySelectorAll("details.trace")];
  const moreServices = (a, b) => (a && +a.dataset.services >= +b.dataset.services ? a : b);
  const opened = traces.reduce(moreServices, undefined);
  if (opened) { opened.open = true; }
  setInterval(showRelativeTimes, 1000);
  showRelativeTimes();
  poll();
})();
