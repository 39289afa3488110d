// --- tables

let DataTable;

// Filters by column: by name in a link, by place in the table.
function filtered(text, names) {
  try {
    const filters = Object.entries(JSON.parse(text)).filter(([name, filter]) => names.includes(name) && filter instanceof Object);
    return Object.fromEntries(filters.map(([name, filter]) => [names.indexOf(name), filter]));
  } catch {
    return {}; // a link that was cut
  }
}

function ranking(view, article) {
  const node = find("table.ranking", article);
  const names = all("thead th", node).map((th) => th.dataset.name);
  const more = all("thead th[data-more]", node).map((th) => th.dataset.name);
  const [column, direction] = chosen(view, "sort").split(/\.(asc|desc)$/);
  const filters = filtered(chosen(view, "filters", "{}"), names);
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
      choose(view, "filters", JSON.stringify(Object.fromEntries(kept.map(([place, filter]) => [names[place], filter]))), "{}");
    },
    stateLoadCallback: () => ({ time: Date.now(), columnControl: filters }),
  });
  const board = find("select.board", article);
  const first = board.options[1].value;
  board.value = chosen(view, "board", first);
  table.search.fixed("board", (_, __, index) => !board.value || table.row(index).node().dataset.board === board.value);
  const match = () => {
    const every = chosen(view, "columns") === "all";
    names.forEach((name, i) => {
      const told = board.value && ["data", "threat"].includes(name); // one value each, which is chosen above
      table.column(i).visible(!told && (every || !more.includes(name)), false);
    });
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
  const wider = find("button.more", article);
  const told = () => {
    const every = chosen(view, "columns") === "all";
    wider.hidden = !more.length;
    wider.textContent = every ? "Fewer columns" : "More columns";
    wider.setAttribute("aria-pressed", every);
  };
  wider.addEventListener("click", () => {
    choose(view, "columns", chosen(view, "columns") === "all" ? "" : "all");
    told();
    match();
  });
  told();
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
