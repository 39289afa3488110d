// --- tables

let DataTable;

function ranking(view, article) {
  const node = find("table.ranking", article);
  const names = all("thead th", node).map((th) => th.dataset.name);
  const [column, direction] = chosen(view, "sort").split(/\.(asc|desc)$/);
  const filters = JSON.parse(chosen(view, "filters", "{}"));
  const long = all("tbody tr", node).length > 100;
  const table = new DataTable(node, {
    order: names.includes(column) ? [[names.indexOf(column), direction]] : [],
    columns: names.map((name) => ({ name })),
    search: { search: chosen(view, "q") },
    autoWidth: false,
    paging: long,
    pageLength: 100,
    lengthChange: false,
    columnControl: ["searchDropdown"],
    layout: { topStart: "search", topEnd: "info", bottomStart: null, bottomEnd: long ? "paging" : null },
    language: { search: "Search ", info: "_TOTAL_ lines", infoFiltered: " of _MAX_", infoEmpty: "no line" },
    stateSave: true,
    stateSaveCallback: (_, saved) => {
      const kept = Object.entries(saved.columnControl ?? {}).filter(([, f]) => f.searchInput?.value || f.searchInput?.logic?.includes("mpty"));
      choose(view, "filters", JSON.stringify(Object.fromEntries(kept)), "{}");
    },
    stateLoadCallback: () => ({ time: Date.now(), columnControl: filters }),
  });
  const board = find("select.board", article);
  const first = board.options[1].value;
  board.value = chosen(view, "board", first);
  table.search.fixed("board", (_, __, index) => !board.value || table.row(index).node().dataset.board === board.value);
  const match = () => {
    table.columns(["data:name", "threat:name"]).visible(!board.value, false); // one value each, which is chosen above
    table.draw();
    for (const figure of all("figure.plot", article)) {
      const wanted = figure.dataset.board ? figure.dataset.board === board.value : board.value.startsWith(`${figure.dataset.data} · `);
      figure.hidden = Boolean(board.value) && !wanted;
    }
    for (const part of all(".part", article)) {
      const figures = all("figure.plot", part);
      part.hidden = figures.length > 0 && figures.every((figure) => figure.hidden);
    }
    sections(view, article);
  };
  board.addEventListener("change", () => (choose(view, "board", board.value, first), match()));
  match();
  table.on("search", () => choose(view, "q", table.search()));
  table.on("order", () => {
    const [by] = table.order();
    choose(view, "sort", by?.[1] ? `${names[by[0]]}.${by[1]}` : "");
  });
  node.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-entry]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    detail(view, article, link.dataset.entry);
  });
  const addressed = () => all("a[data-entry]", node).forEach((link) => (link.href = address({ entry: link.dataset.entry })));
  node.addEventListener("pointerdown", addressed);
  return table;
}

function sections(view, article) {
  const bar = find("nav.parts", article);
  bar.replaceChildren();
  for (const part of all(".part", article).filter((p) => !p.hidden)) {
    const title = find("h3", part);
    const link = make("a", { href: "#" }, title.textContent);
    link.addEventListener("click", (event) => {
      event.preventDefault();
      choose(view, "section", part.dataset.part, "ranking");
      title.scrollIntoView();
      title.focus({ preventScroll: true });
    });
    bar.append(link);
  }
}

// --- the detail of an entry

function tabled({ columns, rows }, name) {
  const heads = columns.map((c) => {
    const th = make("th", { scope: "col", title: c.about ?? "" }, c.name);
    th.classList.toggle("number", c.number);
    return th;
  });
  const lines = rows.map((row) =>
    make("tr", {}, ...row.map((value, i) => {
      const td = make("td", {}, columns[i].number ? number(value, columns[i].digits) : String(value ?? "–"));
      if (columns[i].number) td.classList.add("number"), td.setAttribute("data-order", value ?? "");
      return td;
    })),
  );
  const table = make("table", { class: "display compact", "aria-label": name });
  table.append(make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...lines));
  return table;
}

function detail(view, article, name) {
  const dialog = find("#detail");
  const content = find(".content", dialog);
  const entry = (article.entries ??= read(find("script.entries", article)))[name];
  if (!entry) return;
  find("#detail-title").textContent = name;
  content.replaceChildren();
  const listed = (title, texts, kind) => {
    if (texts?.length) content.append(make("h3", {}, title), make("ul", { class: kind }, ...texts.map((t) => make("li", {}, t))));
  };
  listed("Disputed", entry.disputed, "disputed");
  listed("Best known", entry.found, "found");
  listed("Warnings", entry.warnings, "warnings");
  if (entry.facts?.length) {
    const facts = entry.facts.map(([key, value]) => make("div", {}, make("dt", {}, key), make("dd", {}, value)));
    content.append(make("h3", {}, "How it was measured"), make("dl", { class: "facts" }, ...facts));
  }
  if (entry.command) {
    const button = make("button", { type: "button" }, "Copy command");
    button.addEventListener("click", () => copy(entry.command, button));
    content.append(make("h3", {}, "Reproduce"), make("pre", { tabindex: 0 }, make("code", {}, entry.command)), button);
  }
  for (const [title, table] of [["Attacks, mean over samples", entry.attacks], ["Samples, under the attack that counts of each", entry.samples]]) {
    if (!table) continue;
    const node = tabled(table, title);
    content.append(make("h3", {}, title), node);
    new DataTable(node, { paging: table.rows.length > 50, pageLength: 50, searching: false, info: false, lengthChange: false, order: [], autoWidth: false });
  }
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  choose(view, "entry", name);
}
