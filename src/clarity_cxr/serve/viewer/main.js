// A film from the reader's hand to the screen, and what keys and buttons do.
const view = new FilmView(byId("view"), byId("readout"));
const gestures = new Gestures(view);
const panel = new Panel(view);
let file = null;
let answer = null;
let asking = null;

async function ask(film, kind, signal) {
  const type = /\.(dcm|dicom)$/i.test(film.name) ? "application/dicom" : film.type || "application/octet-stream";
  const response = await fetch(`v1/predict?answer=${kind}`, { method: "POST", body: film, headers: { "Content-Type": type }, signal });
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Error(typeof said.detail === "string" ? said.detail : `the server answered ${response.status}`);
}

async function open(chosen) {
  if (!chosen) return;
  asking?.abort();
  const own = (asking = new AbortController());
  byId("busy").hidden = false;
  warn("");
  try {
    const said = await (await ask(chosen, "maps", own.signal)).json();
    const film = await readAnswer(said);
    if (asking !== own) return;
    [file, answer] = [chosen, said];
    show(film);
  } catch (error) {
    if (asking === own) warn(`${chosen.name}: ${error.message}`);
  } finally {
    if (asking === own) byId("busy").hidden = true;
  }
}

function show(film) {
  byId("welcome").hidden = true;
  byId("filmname").textContent = byId("filmname").title = file.name;
  const report = document.querySelector('[data-save="report"]');
  report.disabled = !film.dicom;
  report.title = film.dicom ? "" : "A structured report refers to a DICOM film; this one is not";
  view.show(film);
  panel.show(film);
  pressed("invert", false);
  warn(film.warnings.length ? `This may not be a whole upright frontal chest film: ${film.warnings.join("; ")}.` : "");
  document.body.dataset.film = file.name;
}

function warn(text) {
  byId("warning").textContent = text;
  byId("warning").hidden = !text;
}

async function save(kind) {
  const stem = file.name.replace(/\.[^.]*$/, "");
  try {
    if (kind === "json") {
      const { findings, colours, box_thresholds, side, grid, film, heatmaps, attention, masks, ...plain } = answer;
      return download(new Blob([JSON.stringify(plain, null, 2)], { type: "application/json" }), `${stem}.json`);
    }
    const ending = kind === "overlay" ? ".overlay.png" : ".sr.dcm";
    download(await (await ask(file, kind)).blob(), stem + ending);
  } catch (error) {
    warn(error.message);
  }
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function useTool(tool) {
  gestures.tool = tool;
  view.canvas.classList.toggle("window", tool === "window");
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === tool);
}

function pressed(name, value) {
  document.querySelector(`[data-do="${name}"]`).setAttribute("aria-pressed", value);
}

const actions = {
  zoomIn: () => view.zoom(1.25),
  zoomOut: () => view.zoom(0.8),
  fit: () => view.fit(),
  actual: () => view.zoom(1 / view.scale),
  invert: () => { view.invert(); pressed("invert", view.inverted); },
  reset: () => { view.inverted = false; pressed("invert", false); view.setWindow(FULL_WINDOW.width, FULL_WINDOW.level); },
  keys: () => byId("keys").showModal(),
};

const keys = {
  "+": actions.zoomIn, "=": actions.zoomIn, "-": actions.zoomOut, f: actions.fit, 0: actions.fit, 1: actions.actual,
  i: actions.invert, r: actions.reset,
  p: () => useTool("pan"), w: () => useTool("window"),
  h: () => panel.toggle("heat"), b: () => panel.toggle("boxes"), m: () => panel.toggle("mask"), a: () => panel.toggle("attention"),
  ArrowUp: () => panel.step(-1), ArrowDown: () => panel.step(1), Escape: () => panel.select(null),
  "[": () => panel.setThreshold(panel.thresholds[panel.finding] - 0.01),
  "]": () => panel.setThreshold(panel.thresholds[panel.finding] + 0.01),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "?") return actions.keys();
  if (key === "o") return byId("file").click();
  if (!view.film || !keys[key] || (event.target.type === "range" && key.startsWith("Arrow"))) return;
  event.preventDefault();
  keys[key]();
});

for (const id of ["open", "choose"]) byId(id).addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => { open(event.target.files[0]); event.target.value = ""; });
for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => useTool(button.dataset.tool));
for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => (view.film || button.dataset.do === "keys") && actions[button.dataset.do]());
}
for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => save(button.dataset.save));

const stage = byId("stage");
document.addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("dropping"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) stage.classList.remove("dropping"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("dropping");
  open(event.dataTransfer.files[0]);
});
