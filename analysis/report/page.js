// The page's own script: the theme, the copy buttons, and learning curves drawn by uPlot when they come into view.
(() => {
  "use strict";
  const SMOOTHING = 0.6;  // share of the weight that a value keeps at the next
  const HEIGHT = 250, TIP_ROWS = 12, BAND = "2e", SEED = "66";  // last two: opacity as hexadecimal digits of a colour
  const root = document.documentElement;
  const protocols = JSON.parse(document.getElementById("data").textContent);
  const charts = [];

  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const steps = (value) => value >= 1e6 ? `${+(value / 1e6).toPrecision(3)}M` : value >= 1e3 ? `${+(value / 1e3).toPrecision(3)}k` : `${value}`;
  const number = (value) => Math.abs(value) >= 1e9 ? value.toPrecision(4) : Math.abs(value) >= 100 ? value.toFixed(1) : String(+value.toPrecision(3));

  function element(tag, text = "") {
    const made = document.createElement(tag);
    made.textContent = text;
    return made;
  }

  class Chart {
    constructor(figure, panel, agents, view) {
      Object.assign(this, {figure, panel, agents, view, plot: null, tip: null});
      this.box = figure.querySelector(".chart");
      this.note = figure.querySelector(".hidden-note");
      this.box.addEventListener("keydown", (event) => this.key(event));
      this.box.addEventListener("blur", () => this.hideTip());
      this.box.addEventListener("mouseleave", () => this.hideTip());
    }

    // Columns for uPlot: one list of steps for all, gaps of alignment undefined, missing values null.
    columns() {
      const {logX, logY} = this.view;
      let dropped = 0;
      const tables = [], series = [{}], bands = [];
      const shown = (y) => {
        if (logY && y !== null && y !== undefined && y <= 0) { dropped += 1; return null; }
        return y;
      };
      const add = (x, ys, options) => {
        const keep = x.map((step, i) => i).filter((i) => !logX || x[i] > 0);
        tables.push([keep.map((i) => x[i]), ...ys.map((y) => keep.map((i) => shown(y[i])))]);
        series.push(...options);
      };
      const {xs} = this.panel;
      for (const each of this.panel.series) {
        const agent = this.agents[each.agent], visible = this.view.shown.has(each.agent);
        for (const seed of each.seeds) {
          add(xs[seed.x], [this.smoothed(seed.y)], [{
            role: "seed", agent: each.agent, show: visible && this.view.seeds, stroke: agent.color + SEED, width: 0.8,
            points: {show: seed.y.length === 1 && each.n > 1, size: 4},
          }]);
        }
      }
      for (const each of this.panel.series) {
        const agent = this.agents[each.agent], visible = this.view.shown.has(each.agent);
        const first = series.length;
        add(xs[each.x], [each.high, each.low, this.smoothed(each.mean)], [
          {role: "band", agent: each.agent, show: visible && this.view.bands, stroke: "transparent", width: 0, points: {show: false}},
          {role: "band", agent: each.agent, show: visible && this.view.bands, stroke: "transparent", width: 0, points: {show: false}},
          {role: "mean", agent: each.agent, show: visible, stroke: agent.color, width: 2.2, dash: agent.dash.map((length) => length * 2.2),
            points: {show: each.mean.length === 1, size: 7, fill: agent.color}},
        ]);
        bands.push({series: [first, first + 1], fill: agent.color + BAND});
      }
      return {data: uPlot.join(tables), series, bands, dropped};
    }

    // A moving average that trusts older values less and begins anew after a gap; as drawn, where asked for.
    smoothed(ys) {
      if (!this.view.smooth) return ys;
      let sum = 0, weight = 0;
      return ys.map((y) => {
        if (y === null) { sum = weight = 0; return null; }
        sum = SMOOTHING * sum + y;
        weight = SMOOTHING * weight + 1;
        return sum / weight;
      });
    }

    build() {
      const {data, series, bands, dropped} = this.columns();
      const {logX, logY} = this.view;
      if (this.plot) this.plot.destroy();
      this.hideTip();
      const axis = {stroke: () => colour("--soft"), grid: {stroke: () => colour("--rule"), width: 0.6}, ticks: {show: false}, font: "11px system-ui, sans-serif"};
      const linearX = (plot, low, high) => [0, high > 0 ? high : 1];
      const linearY = (plot, low, high) => {
        if (low === null || low === undefined) return [0, 1];
        const pad = (high - low || Math.abs(high) || 1) * 0.05;
        return [low >= 0 && low < 0.5 * high ? 0 : low - pad, high + pad];
      };
      this.plot = new uPlot({
        width: this.box.clientWidth, height: HEIGHT, series, bands, legend: {show: false}, padding: [10, 14, 0, 0],
        scales: {
          x: logX ? {time: false, distr: 3} : {time: false, range: linearX},
          y: logY ? {distr: 3} : {range: linearY},
        },
        axes: [
          {...axis, size: 30, space: 56, values: (plot, ticks) => ticks.map((tick) => tick === null ? "" : steps(tick))},
          {...axis, size: 52, space: 34, values: (plot, ticks) => ticks.map((tick) => tick === null ? "" : String(+tick.toPrecision(6)))},
        ],
        cursor: {y: false, drag: {x: false, y: false, setScale: false}, points: {show: false}},
        hooks: {setCursor: [(plot) => this.showTip(plot)]},
      }, data, this.box);
      this.note.hidden = dropped === 0;
      this.note.textContent = "Values of 0 and less are not drawn on a log axis.";
    }

    // Shows and hides curves without building anew.
    refresh() {
      if (!this.plot) return;
      const {shown, seeds, bands} = this.view, allowed = {seed: seeds, band: bands, mean: true};
      this.plot.batch(() => this.plot.series.forEach((each, i) => {
        const show = i > 0 && shown.has(each.agent) && allowed[each.role];
        if (i > 0 && each.show !== show) this.plot.setSeries(i, {show}, false);
      }));
    }

    key(event) {
      const direction = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (event.key === "Escape") this.hideTip();
      if (!direction || !this.plot) return;
      event.preventDefault();
      const [xs] = this.plot.data, at = this.tip ? this.plot.cursor.idx ?? -1 : direction > 0 ? -1 : xs.length;
      const next = Math.min(xs.length - 1, Math.max(0, at + direction));
      this.plot.setCursor({left: this.plot.valToPos(xs[next], "x"), top: this.plot.bbox.height / devicePixelRatio / 3});
    }

    // Under the pointer: of each agent its last evaluation so far.
    showTip(plot) {
      const {left, top, idx} = plot.cursor;
      if (left === undefined || left < 0 || idx === null || idx === undefined) return this.hideTip();
      const at = plot.data[0][idx], rows = [];
      for (const each of this.panel.series) {
        const x = this.panel.xs[each.x];
        let i = x.length - 1;
        while (i >= 0 && x[i] > at) i -= 1;
        if (i >= 0 && this.view.shown.has(each.agent) && each.mean[i] !== null) rows.push({each, i, step: x[i], y: each.mean[i]});
      }
      rows.sort((a, b) => b.y - a.y);
      const tip = element("div");
      tip.className = "tip";
      tip.setAttribute("role", "status");
      tip.append(element("b", `${at.toLocaleString("en")} steps`));
      for (const {each, i, step, y} of rows.slice(0, TIP_ROWS)) {
        const line = element("div"), swatch = element("i"), name = element("span", this.agents[each.agent].name);
        swatch.style.background = this.agents[each.agent].color;
        const interval = each.low[i] === null ? "" : ` [${number(each.low[i])}, ${number(each.high[i])}]`;
        line.append(swatch, name, element("b", number(y)), element("em", `${interval} n=${each.n}${step < at ? ` at ${steps(step)}` : ""}`));
        tip.append(line);
      }
      if (rows.length > TIP_ROWS) tip.append(element("em", `and ${rows.length - TIP_ROWS} lower`));
      if (this.tip) this.tip.remove();
      this.tip = tip;
      this.figure.append(tip);
      const x = left + plot.bbox.left / devicePixelRatio, width = this.figure.clientWidth;
      tip.style.left = `${Math.max(0, Math.min(x + 14, width - tip.offsetWidth))}px`;
      if (x + 14 + tip.offsetWidth > width && x - 14 > tip.offsetWidth) tip.style.left = `${x - 14 - tip.offsetWidth}px`;
      tip.style.top = `${this.box.offsetTop + Math.max(0, top) + 18}px`;
    }

    hideTip() {
      if (this.tip) this.tip.remove();
      this.tip = null;
    }
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const chart = charts.find((each) => each.box === entry.target);
      if (entry.isIntersecting && !chart.plot) chart.build();
    }
  }, {rootMargin: "300px"});
  const sized = new ResizeObserver((entries) => {
    for (const entry of entries) {
      const chart = charts.find((each) => each.box === entry.target);
      if (chart.plot && entry.contentRect.width > 0) chart.plot.setSize({width: entry.contentRect.width, height: HEIGHT});
    }
  });

  for (const box of document.querySelectorAll(".curves")) {
    const {agents, panels} = protocols[Number(box.dataset.protocol)];
    const view = {shown: new Set(agents.keys()), seeds: true, bands: true, logX: false, logY: false, smooth: false};
    const mine = [...box.querySelectorAll(".panel")].map(
      (figure) => new Chart(figure, panels[Number(figure.dataset.panel)], agents, view));
    charts.push(...mine);
    for (const chart of mine) { seen.observe(chart.box); sized.observe(chart.box); }
    const buttons = [...box.querySelectorAll(".agent")];
    const refresh = () => {
      for (const button of buttons) button.setAttribute("aria-pressed", String(view.shown.has(Number(button.dataset.agent))));
      for (const chart of mine) { chart.refresh(); chart.hideTip(); }
    };
    for (const button of buttons) {
      button.addEventListener("click", () => {
        const agent = Number(button.dataset.agent);
        if (!view.shown.delete(agent)) view.shown.add(agent);
        refresh();
      });
    }
    for (const button of box.querySelectorAll("[data-toggle]")) {
      button.addEventListener("click", () => {
        const what = button.dataset.toggle;
        if (what === "all" || what === "none") {
          view.shown = new Set(what === "all" ? agents.keys() : []);
          return refresh();
        }
        view[what] = !view[what];
        button.setAttribute("aria-pressed", String(view[what]));
        if (what === "seeds" || what === "bands") refresh();
        else for (const chart of mine) if (chart.plot) chart.build();
      });
    }
  }
  addEventListener("beforeprint", () => { for (const chart of charts) if (!chart.plot) chart.build(); });

  const repaint = () => { for (const chart of charts) if (chart.plot) chart.plot.redraw(false, true); };
  const theme = document.getElementById("theme"), themes = ["auto", "light", "dark"];
  theme.hidden = false;
  theme.lastElementChild.textContent = root.dataset.theme ?? "auto";
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme ?? "auto") + 1) % themes.length];
    if (next === "auto") delete root.dataset.theme; else root.dataset.theme = next;
    theme.lastElementChild.textContent = next;
    try { localStorage.setItem("covr-bench-theme", next); } catch (error) { console.debug("the theme is not remembered", error); }
    repaint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  }
  // A link into a closed part opens it.
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", open);
  open();
  if (matchMedia("(max-width: 62rem)").matches) document.querySelector("nav details").open = false;
})();
