// --- the gallery: of each entry its most damaged sample, clean and attacked, which opens the picture browser

const FIRST = 12; // cards before "all"

function worst_of_entries(shots) {
  const found = new Map(); // shots come with the most damaged sample of each entry first
  for (const shot of shots) {
    const key = `${shot.entry}\n${shot.board}`;
    if (!found.has(key)) found.set(key, shot);
  }
  const lost = (shot) => shot.lost ?? Infinity; // nothing was decoded at all
  return [...found.values()].sort((one, other) => lost(other) - lost(one) || 0);
}

function picture(clip, shown) {
  if (!clip.length) return make("span", { class: "failed" }, "nothing was decoded");
  return make("img", { src: images[clip.at(-1)], alt: shown, loading: "lazy" });
}

function card(shot, colour, look) {
  const n = shot.numbers;
  const side = (name) => make("span", { class: "side" }, picture(shot.clips[name], `${name}: ${shot.sample}, ${shot.entry}`), name);
  const pair = make("span", { class: "two" }, side("clean"), side("attacked"));
  const dot = make("span", { class: "dot" });
  dot.style.background = colour;
  const said = `${n.psnr ?? "–"} → ${n.adv_psnr ?? "–"} dB, input ${n.input_psnr ?? "–"} dB, ${shot.sample}`;
  const button = make("button", { type: "button" }, pair, make("span", { class: "name" }, dot, shot.entry), make("span", { class: "said" }, said));
  button.addEventListener("click", () => look(shot));
  return make("li", {}, button);
}

function gallery(view, article, look) {
  const box = find(".gallery", article);
  const list = find(".cards", box);
  if (!list) return;
  const worst = worst_of_entries(read(find("script.shots", article)));
  const colours = read(find("script.colours", article));
  const board = find("select.board", article);
  const [more, none] = [find(".all", box), find(".none", box)];

  function show() {
    const here = worst.filter((shot) => !board.value || shot.board === board.value);
    const every = chosen(view, "cards") === "all" || here.length <= FIRST;
    list.replaceChildren(...(every ? here : here.slice(0, FIRST)).map((shot) => card(shot, colours[shot.entry], look)));
    more.hidden = here.length <= FIRST;
    more.textContent = every ? `The ${FIRST} most damaged alone` : `All ${here.length}`;
    none.hidden = here.length > 0;
    none.textContent = `Pictures are kept of ${[...new Set(worst.map((shot) => shot.board))].join(", ")} alone.`;
  }

  more.addEventListener("click", () => (choose(view, "cards", chosen(view, "cards") === "all" ? "" : "all"), show()));
  board.addEventListener("change", show);
  show();
}
