// --- libraries, which lie in the page as text and run when they are needed

const address_of = (id) => URL.createObjectURL(new Blob([read(find(id))], { type: "text/javascript" }));
let plotting;

function plotly() {
  plotting ??= new Promise((resolve) => {
    const script = make("script", { src: address_of("#plotly") });
    script.addEventListener("load", resolve);
    document.head.append(script);
  });
  return plotting;
}

// --- plots, drawn when they come near

const near = new IntersectionObserver(
  (seen) => seen.filter((s) => s.isIntersecting).forEach((s) => (near.unobserve(s.target), draw(s.target))),
  { rootMargin: "400px" },
);

// An entry's name in lines of a phone's margin, broken where it has a sign.
const folded = (name) => name.replace(/(.{14,}?[-.+ ])(?=.)/g, "$1<br>");

async function draw(figure) {
  await plotly();
  const { kind, rows } = figure.dataset;
  const canvas = find(".canvas", figure);
  const { data, layout } = read(find("script", figure));
  const narrow = figure.clientWidth < 700;
  const legends = data.filter((trace) => trace.type === "scatter" && trace.showlegend !== false && trace.visible !== false);
  const below = Math.min(legends.length, 10) * 20;
  layout.template = template();
  layout.margin = kind === "heat" ? { l: 56, r: 16, t: 56, b: 16 } : { l: 56, r: 16, t: 36, b: 48 };
  layout.height = kind === "heat" ? 72 + Math.max(96, 32 * rows) : (kind === "security" ? 760 : 440) + (narrow ? below + 16 : 0);
  layout.legend = narrow
    ? { orientation: "h", yanchor: "top", y: -76 / (layout.height - below - 80), font: { size: 11 } }
    : { font: { size: 11 } };
  layout.showlegend = kind !== "heat";
  layout.hovermode = "closest";
  if (kind === "heat") {
    canvas.style.minWidth = `${narrow ? 130 + 56 * data[0].x.length : 320 + 90 * data[0].x.length}px`;
    if (narrow) Object.assign(layout.yaxis, { tickvals: data[0].y, ticktext: data[0].y.map(folded), tickfont: { size: 9 } });
  }
  const switched = find(".choice", figure)?.value;
  if (switched) data.forEach((trace) => trace.meta && (trace.visible = trace.meta === switched));
  Plotly.newPlot(canvas, data, layout, {
    displaylogo: false,
    responsive: true,
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
  });
}

function plots(view, article) {
  for (const select of all("figure.plot .choice", article)) {
    const figure = select.closest("figure");
    const { kind } = figure.dataset;
    const usual = select.options[0].value;
    select.value = chosen(view, kind, usual);
    if (!select.value) select.value = usual;
    select.addEventListener("change", () => {
      choose(view, kind, select.value, usual);
      for (const other of all(`figure.plot[data-kind="${kind}"]`, article)) {
        const same = find(".choice", other);
        if (![...same.options].some((o) => o.value === select.value)) continue;
        same.value = select.value;
        const canvas = find(".canvas", other);
        if (!canvas.data) continue;
        Plotly.restyle(canvas, { visible: canvas.data.map((trace) => !trace.meta || trace.meta === select.value) });
      }
    });
  }
  all("figure.plot", article).forEach((figure) => near.observe(figure));
}
