// The charts of the portfolio over time, for keyboard and pointer. A row is [Unix seconds, Unix seconds of the
// interval that it is of, a value for each series or null, text].
"use strict";

const charts = (() => {
  if (!document.getElementById("chart")) { return { show() {} }; } // nobody's portfolio is shown
  const rangeButtons = [...document.querySelectorAll("[data-range]")];
  const ofValue = [document.getElementById("ranges"), document.getElementById("chart-help")];
  let range = "daily", data, shown = "";

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const compact = new Intl.NumberFormat("en",
    { notation: "compact", maximumFractionDigits: 1, minimumFractionDigits: 1 });
  const tickLabel = (seconds) => {
    const iso = new Date(seconds * 1000).toISOString();
    return seconds % 86400 ? iso.slice(11, 16) : iso.slice(5, 10);
  };
  const numbers = (rows, n) => rows.map((r) => (r[2][n] === null ? null : Number(r[2][n])));

  // Each kind returns the data of its series, the series and the range of its axis, undefined for that of the data.

  // An area stands for an amount, so it is filled only where the axis begins at zero. That hides the changes of a
  // value that moves little: then only a line is drawn, and the axis says where it begins.
  function value(rows) {
    const values = numbers(rows, 0);
    const fromZero = Math.min(...values) <= Math.max(...values) / 2;
    return {
      values: [values], fromZero, range: fromZero ? (_, lo, hi) => [0, hi * 1.05 || 1] : undefined,
      series: [{ stroke: colour("--accent"), fill: fromZero ? colour("--accent-soft") : undefined }],
    };
  }
  function growth(rows) {
    const strokes = [{ stroke: colour("--accent") }, { stroke: colour("--c2"), dash: [6, 4] }];
    const series = strokes.slice(0, rows[0][2].length);
    return { values: series.map((_, n) => numbers(rows, n)), series };
  }
  function drawdown(rows) {
    return {
      values: [numbers(rows, 0)], unit: " %", range: (_, lo) => [Math.min(lo * 1.05, -0.1), 0],
      series: [{ stroke: colour("--bad"), fill: colour("--bad-soft"), fillTo: 0 }],
    };
  }
  // The sum of all is drawn first, and each smaller sum over it, so that the first token is at the bottom.
  function allocation(rows, { colours }) {
    const sums = rows.map((r) => {
      let sum = 0;
      return r[2].map((v) => (v === null ? null : (sum += Number(v))));
    });
    const top = colours.map((_, n) => n).reverse();
    return {
      values: top.map((n) => sums.map((s) => s[n])), range: (_, lo, hi) => [0, hi * 1.05 || 1],
      series: top.map((n) => ({
        stroke: colour("--card"), fill: colour("--c" + colours[n]), width: 1,
        points: { show: rows.length === 1, fill: colour("--c" + colours[n]) },
      })),
    };
  }

  function chartOf(id, title, kind, part) {
    const container = document.getElementById(id), box = container.closest(".charted");
    const readout = box.querySelector(".readout"), axisNote = box.querySelector(".axis");
    let plot, rows = [], drawn = "";

    const daily = () => range === "daily" || !data[part].hourly;
    const label = (row) => {
      const iso = new Date(row[1] * 1000).toISOString();
      return daily() ? iso.slice(0, 10) : iso.slice(0, 16).replace("T", " ") + " UTC";
    };
    const showPoint = (i) => {
      readout.textContent = i == null || !rows[i] ? "" : label(rows[i]) + ": " + rows[i][3];
    };

    function draw() {
      rows = (daily() ? data[part].daily : data[part].hourly) ?? [];
      if (plot) { plot.destroy(); plot = undefined; }
      const [first, last] = [rows[0], rows[rows.length - 1]];
      container.setAttribute("aria-label", rows.length === 0 ? title + ": no values yet" : title + ": " + rows.length +
        " points, from " + first[3] + " at " + label(first) + " to " + last[3] + " at " + label(last));
      readout.textContent = "";
      if (axisNote) { axisNote.textContent = ""; }
      box.hidden = (data[part].daily ?? []).length === 0;
      if (rows.length === 0) { return; }
      const drawing = kind(rows, data[part]);
      const line = colour("--line"), quiet = colour("--quiet");
      const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
      plot = new uPlot({
        width: container.clientWidth, height: container.clientHeight,
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        cursor: { y: false, drag: { x: false, y: false } },
        legend: { show: false },
        scales: {
          ...(rows.length > 1 ? {} : { x: { range: (_, lo) => [lo - 43200, lo + 43200] } }),
          ...(drawing.range ? { y: { range: drawing.range } } : {}),
        },
        axes: [
          { ...axis, values: (_, ticks) => ticks.map(tickLabel) },
          { ...axis, size: 64, values: (_, ticks) => ticks.map((v) => compact.format(v) + (drawing.unit ?? "")) },
        ],
        series: [{}, ...drawing.series.map((s) => ({ width: 2, points: { show: rows.length < 40 }, ...s }))],
        hooks: { setCursor: [(u) => showPoint(u.cursor.idx)] },
      }, [rows.map((r) => r[0]), ...drawing.values], container);
      if (drawing.fromZero !== undefined) {
        container.dataset.axis = drawing.fromZero ? "zero" : "cut";
      }
      if (axisNote && !drawing.fromZero) {
        axisNote.textContent = "The axis begins at " + compact.format(plot.scales.y.min) + ", not at zero.";
      }
    }

    container.addEventListener("keydown", (e) => {
      if (!plot) { return; }
      const at = plot.cursor.idx ?? rows.length;
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: rows.length - 1 }[e.key];
      if (to === undefined) { return; }
      e.preventDefault();
      const i = Math.max(0, Math.min(rows.length - 1, to));
      plot.setCursor({ left: plot.valToPos(rows[i][0], "x"), top: 10 });
      showPoint(i);
    });
    new ResizeObserver(() => {
      if (plot && container.clientWidth !== plot.width) {
        plot.setSize({ width: container.clientWidth, height: container.clientHeight });
      }
    }).observe(container);

    return {
      // show draws what is not drawn yet; with force also what is.
      show(force) {
        const text = range + JSON.stringify(data[part]);
        if (text === drawn && !force) { return; }
        drawn = text;
        draw();
      },
    };
  }

  const all = [
    chartOf("chart", "Value over time", value, "value"),
    chartOf("growth-chart", "Growth of 100", growth, "growth"),
    chartOf("drawdown-chart", "Drawdown", drawdown, "drawdown"),
    chartOf("allocation-chart", "Allocation over time", allocation, "allocation"),
  ];
  const showAll = (force) => {
    if (data) { for (const c of all) { c.show(force); } }
  };

  for (const b of rangeButtons) {
    b.addEventListener("click", () => {
      range = b.dataset.range;
      for (const other of rangeButtons) { other.setAttribute("aria-pressed", String(other === b)); }
      showAll(false);
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => showAll(true));

  return {
    // show draws the charts of these series.
    show(next) {
      const text = JSON.stringify(next);
      if (text === shown) { return; }
      shown = text;
      data = next;
      for (const part of ofValue) { part.hidden = (next.value.daily ?? []).length === 0; }
      showAll(false);
    },
  };
})();
