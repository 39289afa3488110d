// The picture and clip browser: two of four pictures over each other, by a native slider or as their difference.

const SIDES = { original: "original", adversarial: "attacked input", clean: "clean reconstruction", attacked: "attacked reconstruction" };
let images;

function fill(select, options, wanted) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  select.value = options.some(([value]) => value === wanted) ? wanted : (options[0]?.[0] ?? "");
}

function pictures(view, article) {
  const box = find(".browser", article);
  if (!box) return;
  const shots = read(find("script.shots", box));
  images ??= read(find("#images"));
  const inputs = Object.fromEntries(all("[data-key]", box).map((node) => [node.dataset.key, node]));
  const [below, above] = [find(".below", box), find(".above", box)];
  const sides = Object.entries(SIDES);
  let shot;
  let playing;

  const linked_to = { shot: chosen(view, "shot"), sample: chosen(view, "sample") };
  const board = find("select.board", article);
  const several = (values) => [...new Set(values)].map((value) => [value, value]);
  fill(inputs.on, several(shots.map((s) => s.board)), chosen(view, "on", chosen(view, "board", board.options[1].value)));
  fill(inputs.a, sides, chosen(view, "a", "clean"));
  fill(inputs.b, sides, chosen(view, "b", "attacked"));
  for (const key of ["gain", "at"]) inputs[key].value = chosen(view, key, inputs[key].value);
  inputs.mode.value = chosen(view, "mode") === "difference" ? "difference" : "slider";

  const lost = (s) => (s.damage.startsWith("−") ? `+${s.damage.slice(1)} dB` : `−${s.damage} dB`);

  function find_shot() {
    const mine = shots.filter((s) => s.board === inputs.on.value);
    fill(inputs.shot, several(mine.map((s) => s.entry)), inputs.shot.value || linked_to.shot);
    const here = mine.filter((s) => s.entry === inputs.shot.value);
    const named = here.map((s) => [s.sample, `${s.sample} (${lost(s)})`]);
    fill(inputs.sample, named, inputs.sample.value || linked_to.sample);
    shot = here.find((s) => s.sample === inputs.sample.value);
    const frames = shot.clips.clean.length;
    inputs.frame.max = frames - 1;
    find(".clip", box).hidden = frames < 2;
    inputs.frame.value = Math.min(frames - 1, inputs.frame.value);
    write_numbers();
  }

  function write_numbers() {
    const n = shot.numbers;
    const said = { attack: shot.attack, "input PSNR": `${n.input_psnr ?? "–"} dB`, clean: `${n.psnr ?? "–"} dB at ${n.bpp ?? "–"} bpp`,
      attacked: `${n.adv_psnr ?? "–"} dB at ${n.adv_bpp ?? "–"} bpp`, "loss of PSNR": `${shot.damage} dB` };
    const list = Object.entries(said).map(([key, value]) => make("div", {}, make("dt", {}, key), make("dd", {}, value)));
    find("dl.numbers", box).replaceChildren(...list);
  }

  function show() {
    const frame = Number(inputs.frame.value);
    const difference = inputs.mode.value === "difference";
    const uris = [inputs.a.value, inputs.b.value].map((side) => images[shot.clips[side][frame]]);
    const missing = uris.some((uri) => uri === undefined);
    find(".failed", box).hidden = !missing;
    find(".layers", box).hidden = missing;
    [above, below].forEach((img, i) => {
      const side = SIDES[[inputs.a.value, inputs.b.value][i]];
      if (uris[i] && img.src !== uris[i]) img.src = uris[i];
      img.alt = `${side} of ${shot.sample}, ${shot.entry}, ${shot.board}`;
    });
    const layers = find(".layers", box);
    layers.classList.toggle("difference", difference);
    box.classList.toggle("zoomed", Number(inputs.zoom.value) > 1 && below.naturalWidth * inputs.zoom.value > find(".stage", box).clientWidth);
    layers.style.setProperty("--at", `${inputs.at.value}%`);
    layers.style.setProperty("--gain", inputs.gain.value);
    layers.style.setProperty("--width", `${below.naturalWidth * inputs.zoom.value}px`);
    find(".gain", box).hidden = !difference;
    inputs.at.hidden = difference;
    find(".left", box).textContent = difference ? `|${SIDES[inputs.a.value]} − ${SIDES[inputs.b.value]}| × ${inputs.gain.value}` : SIDES[inputs.a.value];
    find(".right", box).textContent = difference ? "" : SIDES[inputs.b.value];
    for (const key of ["gain", "zoom"]) find("output", inputs[key].parentNode).textContent = inputs[key].value;
    find("output", inputs.frame.parentNode).textContent = `${frame + 1} of ${shot.clips.clean.length}`;
  }

  function fit() {
    const room = Math.min(find(".stage", box).clientWidth, 560);
    const usual = Math.max(1, Math.min(8, Math.floor(room / below.naturalWidth)));
    inputs.zoom.dataset.usual = usual;
    inputs.zoom.value = chosen(view, "zoom", usual);
    show();
  }

  find_shot();
  inputs.frame.value = chosen(view, "frame", 0);
  const usuals = { a: "clean", b: "attacked", mode: "slider", gain: "8", at: "50", frame: "0" };
  below.addEventListener("load", fit);
  function chosen_by(event) {
    const { key } = event.target.dataset;
    if (!key) return;
    if (["shot", "on", "sample"].includes(key)) find_shot();
    choose(view, key, event.target.value, usuals[key] ?? event.target.dataset.usual ?? "");
    show();
  }

  for (const kind of ["input", "change"]) box.addEventListener(kind, chosen_by); // not every browser sends both
  find(".play", box).addEventListener("click", (event) => {
    const button = event.currentTarget;
    clearInterval(playing);
    const going = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", going);
    button.textContent = going ? "Pause" : "Play";
    if (!going) return;
    playing = setInterval(() => {
      inputs.frame.value = (Number(inputs.frame.value) + 1) % (Number(inputs.frame.max) + 1);
      choose(view, "frame", inputs.frame.value, "0");
      show();
    }, 150);
  });
  board.addEventListener("change", () => {
    if (![...inputs.on.options].some((o) => o.value === board.value)) return;
    inputs.on.value = board.value;
    choose(view, "on", "");
    find_shot();
    show();
  });
  show();

  return (wanted) => {
    for (const [key, value] of [["on", wanted.board], ["shot", wanted.entry], ["sample", wanted.sample]]) {
      inputs[key].value = value;
      choose(view, key, value);
      find_shot(); // fills what is chosen next
    }
    show();
    const title = find("h3", box);
    title.scrollIntoView();
    title.focus({ preventScroll: true });
  };
}

start();
