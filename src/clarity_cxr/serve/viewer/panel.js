// The list of findings, and what is set for the selected one.
const byId = (id) => document.getElementById(id);

class Panel {
  constructor(view) {
    this.view = view;
    byId("findings").addEventListener("click", (event) => {
      const row = event.target.closest("li");
      if (row) this.select(row.dataset.finding === this.finding ? null : row.dataset.finding);
    });
    byId("threshold").addEventListener("input", (event) => this.setThreshold(Number(event.target.value)));
    byId("opacity").addEventListener("input", (event) => this.setOpacity(Number(event.target.value)));
    for (const box of document.querySelectorAll("[data-layer]")) {
      box.addEventListener("change", () => { view.layers[box.dataset.layer] = box.checked; view.redraw(); });
    }
    this.setOpacity(view.opacity);
  }

  show(film) {
    this.film = film;
    this.thresholds = { ...film.box_thresholds };
    this.sorted = [...film.findings].sort((a, b) => film.probabilities[b] - film.probabilities[a]);
    byId("findings").replaceChildren(...this.sorted.map((finding) => this.row(finding)));
    byId("legend").textContent = this.legend();
    byId("model").textContent = `${film.model.name}, weights ${film.model.checkpoint_sha256.slice(0, 12)}`;
    byId("model").title = `clarity-cxr ${film.model.clarity_cxr}, SHA-256 ${film.model.checkpoint_sha256}`;
    byId("downloads").hidden = false;
    this.select(film.decisions[this.sorted[0]] ? this.sorted[0] : null);
  }

  legend() {
    const { calibration } = this.film.decided;
    const shown = calibration === "none" ? "Probability, not calibrated" : `Calibrated probability (${calibration})`;
    const none = this.sorted.some((finding) => this.film.decisions[finding]) ? "" : " None reaches it here.";
    return `${shown}; bold from the decision threshold (tick) on.${none}`;
  }

  row(finding) {
    const { film } = this;
    const [red, green, blue] = film.colours[finding];
    const colour = `rgb(${red} ${green} ${blue})`;
    const probability = film.probabilities[finding];
    const row = document.createElement("li");
    row.setAttribute("role", "option");
    row.id = `finding-${finding}`;
    row.dataset.finding = finding;
    const parts = Object.fromEntries(["swatch", "name", "bar", "number"].map((part) => [part, document.createElement("span")]));
    for (const [part, element] of Object.entries(parts)) element.className = part;
    parts.swatch.style.borderColor = colour;
    parts.name.textContent = plainName(finding);
    parts.number.textContent = probability < 0.005 ? "<0.01" : probability.toFixed(2);
    if (film.decisions[finding]) {
      parts.swatch.style.background = colour;
      parts.name.classList.add("positive");
      row.title = "At or above its decision threshold";
    }
    const filled = document.createElement("i"), tick = document.createElement("b");
    filled.style.width = `${100 * probability}%`;
    filled.style.background = colour;
    tick.style.left = `${100 * film.decided.thresholds[finding]}%`;
    parts.bar.append(filled, tick);
    row.append(...Object.values(parts));
    return row;
  }

  select(finding) {
    this.finding = finding;
    for (const row of byId("findings").children) row.setAttribute("aria-selected", row.dataset.finding === finding);
    byId("findings").setAttribute("aria-activedescendant", finding ? `finding-${finding}` : "");
    byId("detail").hidden = !finding;
    if (!finding) return this.view.select(null);
    byId(`finding-${finding}`).scrollIntoView({ block: "nearest" });
    byId("selected").textContent = plainName(finding);
    this.setThreshold(this.thresholds[finding]);
  }

  step(direction) {
    const at = this.sorted.indexOf(this.finding);
    this.select(this.sorted[Math.min(Math.max(at + direction, 0), this.sorted.length - 1)]);
  }

  setThreshold(value) {
    if (!this.finding) return;
    const threshold = Math.min(Math.max(value, 0.01), 0.99);
    this.thresholds[this.finding] = threshold;
    byId("threshold").value = threshold;
    byId("thresholdValue").textContent = threshold.toFixed(2);
    this.view.select(this.finding, threshold);
    this.listBoxes();
  }

  listBoxes() {
    const { boxes } = this.view;
    const doubt = this.film.decisions[this.finding] ? "" : " The finding is below its decision threshold.";
    const number = boxes.length === 1 ? "1 box" : `${boxes.length} boxes`;
    byId("boxcount").textContent = boxes.length ? `${number}, in film pixels:${doubt}` : `No box above this heat.${doubt}`;
    byId("boxes").replaceChildren(
      ...boxes.map((box) => {
        const [x0, y0, x1, y1] = [box.x0, box.y0, box.x1, box.y1].map(Math.round);
        const entry = document.createElement("li");
        entry.textContent = `x ${x0}–${x1}, y ${y0}–${y1}, score ${box.score.toFixed(2)}`;
        return entry;
      }),
    );
  }

  setOpacity(value) {
    byId("opacityValue").textContent = `${Math.round(100 * value)} %`;
    this.view.opacity = value;
    this.view.redraw();
  }

  toggle(layer) {
    const box = document.querySelector(`[data-layer="${layer}"]`);
    box.checked = !box.checked;
    this.view.layers[layer] = box.checked;
    this.view.redraw();
  }
}
