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

function place({ name, address }) {
  return address.startsWith("https://") ? make("a", { href: address, rel: "noopener noreferrer" }, name) : name;
}

function detail(view, article, name) {
  const dialog = find("#detail");
  const content = find(".content", dialog);
  const entry = entries(article)[name];
  find("#detail-title").textContent = name;
  content.replaceChildren();
  const listed = (title, texts, kind) => {
    if (texts?.length) content.append(make("h3", {}, title), make("ul", { class: kind }, ...texts.map((t) => make("li", {}, t))));
  };
  listed("Disputed", entry.disputed, "disputed");
  listed("Best known", entry.found, "found");
  listed("Warnings", entry.warnings, "warnings");
  if (entry.links?.length) {
    const links = entry.links.map((link) => make("div", {}, make("dt", {}, link.what), make("dd", {}, place(link))));
    content.append(make("h3", {}, "Where it comes from"), make("dl", { class: "facts" }, ...links));
  }
  if (entry.command) {
    const button = make("button", { type: "button" }, "Copy command");
    button.addEventListener("click", () => copy(entry.command, button));
    content.append(make("h3", {}, "Measure it yourself"), make("pre", { tabindex: 0 }, make("code", {}, entry.command)), button);
  }
  if (entry.facts?.length) {
    const facts = entry.facts.map(([key, value]) => make("div", {}, make("dt", {}, key), make("dd", {}, value)));
    content.append(make("h3", {}, "How it was measured"), make("dl", { class: "facts" }, ...facts));
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
