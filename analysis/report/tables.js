// Tables that are sorted, searched and saved; figures that are saved; runs that are searched and shown page by page.
(() => {
  "use strict";
  const SEARCHED = 8, PAGE = 100;  // rows from which a table is searched; runs of a page, `ON_A_PAGE` of runs.py
  const tableNumber = /^[^\d+.-]*([+-]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?)/i;

  function made(tag, properties = {}) {
    return Object.assign(document.createElement(tag), properties);
  }

  function save(text, name, type) {
    const link = made("a", {href: URL.createObjectURL(new Blob([text], {type})), download: name});
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // A spreadsheet would run a cell that begins like a formula.
  function cell(text) {
    const safe = text.length > 1 && /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function slug(text) {
    return text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 80) || "table";
  }

  function value(row, column) {
    const text = row.cells[column].textContent.trim(), found = tableNumber.exec(text);
    return {text, number: found ? Number(found[1].replaceAll(",", "")) : NaN};
  }

  // Numbers before text, what is missing last, in either direction.
  function compare(a, b, direction) {
    if (Number.isNaN(a.number) !== Number.isNaN(b.number)) return Number.isNaN(a.number) ? 1 : -1;
    if (Number.isNaN(a.number)) return direction * a.text.localeCompare(b.text);
    return direction * (a.number - b.number);
  }

  function sort(table, column) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], rows = [...body.rows];
    const direction = heads[column].getAttribute("aria-sort") === "descending" ? 1 : -1;
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const sorted = rows.map((row) => ({row, key: value(row, column)}));
    sorted.sort((a, b) => compare(a.key, b.key, direction));
    body.append(...sorted.map((each) => each.row));
  }

  for (const box of document.querySelectorAll("main .scroll")) {
    const table = box.querySelector("table"), title = box.getAttribute("aria-label") ?? "table";
    const tools = made("div", {className: "tools"});
    if (table && table.tHead && table.tBodies.length) {
      [...table.tHead.rows[0].cells].forEach((head, column) => {
        head.tabIndex = 0;
        head.classList.add("sortable");
        head.title = "sort by this column";
        head.addEventListener("click", () => sort(table, column));
        head.addEventListener("keydown", (event) => {
          if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(table, column); }
        });
      });
      if (table.tBodies[0].rows.length >= SEARCHED) {
        const search = made("input", {type: "search", placeholder: "filter rows"});
        search.setAttribute("aria-label", `Filter rows of ${title}`);
        search.addEventListener("input", () => {
          const wanted = search.value.toLowerCase();
          for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
        });
        tools.append(search);
      }
      const button = made("button", {type: "button", textContent: "CSV"});
      button.setAttribute("aria-label", `Save ${title} as CSV`);
      button.addEventListener("click", () => {
        const rows = [...table.rows].map((row) => [...row.cells].map((each) => cell(each.textContent.trim())).join(","));
        save(`${rows.join("\n")}\n`, `${slug(title)}.csv`, "text/csv");
      });
      tools.append(button);
    }
    const drawing = box.querySelector("svg[role=img]");
    if (drawing && !table) {
      const button = made("button", {type: "button", textContent: "SVG"});
      button.setAttribute("aria-label", `Save ${title} as SVG`);
      button.addEventListener("click", () => {
        const copy = drawing.cloneNode(true), style = getComputedStyle(document.documentElement);
        const text = new XMLSerializer().serializeToString(copy);
        const plain = text.replace(/var\((--[a-z]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
        save(plain, `${slug(title)}.svg`, "image/svg+xml");
      });
      tools.append(button);
    }
    if (tools.childElementCount) box.before(tools);
  }

  // Names and texts of a run's lines, as `pairs` of the template writes them.
  function pairs(lines) {
    const list = made("dl");
    for (const [name, text] of lines) list.append(made("dt", {textContent: name}), made("dd", {textContent: text}));
    return list;
  }

  function runElement({id, status, score, facts, settings, number}) {
    const run = made("details", {className: "run", id: `run-${number}`}), summary = made("summary");
    summary.append(made("span", {className: "run-id", textContent: id}), " ",
      made("span", {className: `status-${status}`, textContent: status}), " ",
      made("span", {className: "score", textContent: score}));
    run.append(summary, pairs(facts));
    if (settings.length) run.append(made("h4", {textContent: "Settings"}), pairs(settings));
    return run;
  }

  // Each run is stored as its difference from the run before: analysis/report/runs.py.
  function unpacked({texts, runs}) {
    const changed = (before, length, changes) => {
      const lines = before.slice(0, length);
      for (let i = 0; i < changes.length; i += 3) lines[changes[i]] = [texts[changes[i + 1]], texts[changes[i + 2]]];
      return lines;
    };
    let facts = [], settings = [];
    return runs.map(([id, status, score, numFacts, ofFacts, numSettings, ofSettings], number) => {
      facts = changed(facts, numFacts, ofFacts);
      settings = changed(settings, numSettings, ofSettings);
      return {id, status, score, facts, settings, number, text: `${id} ${status} ${score}`.toLowerCase()};
    });
  }

  const data = document.getElementById("run-data");
  if (data) {
    const runs = unpacked(JSON.parse(data.textContent)), list = document.getElementById("run-list");
    const search = made("input", {type: "search", placeholder: "search runs"}), count = made("span");
    const back = made("button", {type: "button", textContent: "previous"});
    const next = made("button", {type: "button", textContent: "next"});
    const tools = made("div", {className: "tools"});
    let page = 0;
    const show = () => {
      const wanted = search.value.toLowerCase(), found = runs.filter((run) => run.text.includes(wanted));
      page = Math.max(0, Math.min(page, Math.ceil(found.length / PAGE) - 1));
      const shown = found.slice(page * PAGE, (page + 1) * PAGE), first = found.length ? page * PAGE + 1 : 0;
      list.replaceChildren(...shown.map(runElement));
      count.textContent = `${first} to ${page * PAGE + shown.length} of ${found.length} runs`;
      back.disabled = page === 0;
      next.disabled = (page + 1) * PAGE >= found.length;
    };
    search.setAttribute("aria-label", "Search runs");
    search.addEventListener("input", () => { page = 0; show(); });
    back.addEventListener("click", () => { page -= 1; show(); });
    next.addEventListener("click", () => { page += 1; show(); });
    tools.append(search, back, next, count);
    list.before(tools);
    // A link to a run turns to its page.
    const turn = () => {
      const at = /^#run-(\d+)$/.exec(location.hash)?.[1];
      if (at === undefined || !runs[at]) return;
      search.value = "";
      page = Math.floor(at / PAGE);
      show();
      const run = document.getElementById(`run-${at}`);
      run.open = true;
      run.scrollIntoView();
    };
    addEventListener("hashchange", turn);
    show();
    turn();
  }
})();
