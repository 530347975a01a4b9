// The film on its canvas: zoom, window and level, and the layers of the selected finding.
const FULL_WINDOW = { width: 255, level: 127.5 };

class FilmView {
  constructor(canvas, readout) {
    this.canvas = canvas;
    this.readout = readout;
    this.context = canvas.getContext("2d");
    this.layers = { heat: true, boxes: true, mask: false, attention: false };
    this.opacity = 0.5;
    this.pointer = null;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  show(film) {
    this.film = film;
    this.finding = null;
    this.boxes = [];
    this.inverted = false;
    this.window = { ...FULL_WINDOW };
    this.pixels = new OffscreenCanvas(film.width, film.height);
    this.applyWindow();
    this.fit();
  }

  select(finding, threshold) {
    this.finding = finding;
    this.threshold = threshold;
    this.boxes = finding ? boxesAbove(this.film, finding, threshold) : [];
    this.drawn = finding && { heat: this.heatLayer(), attention: this.attentionLayer() };
    this.redraw();
  }

  // Shades: a film value at level - width / 2 is black, at level + width / 2 white.
  applyWindow() {
    const { width, level } = this.window;
    const shades = new Uint32Array(256);
    for (let value = 0; value < 256; value++) {
      const share = Math.min(Math.max((value - level) / width + 0.5, 0), 1);
      const shade = Math.round(255 * (this.inverted ? 1 - share : share));
      shades[value] = 0xff000000 | (shade << 16) | (shade << 8) | shade;
    }
    const image = new ImageData(this.film.width, this.film.height);
    const out = new Uint32Array(image.data.buffer);
    const { grey } = this.film;
    for (let pixel = 0; pixel < out.length; pixel++) out[pixel] = shades[grey[pixel]];
    this.pixels.getContext("2d").putImageData(image, 0, 0);
    this.redraw();
  }

  setWindow(width, level) {
    this.window = { width: Math.min(Math.max(width, 2), 510), level: Math.min(Math.max(level, 0), 255) };
    this.applyWindow();
  }

  invert() {
    this.inverted = !this.inverted;
    this.applyWindow();
  }

  resize() {
    const density = window.devicePixelRatio;
    const before = [this.canvas.width, this.canvas.height];
    this.canvas.width = Math.round(this.canvas.clientWidth * density);
    this.canvas.height = Math.round(this.canvas.clientHeight * density);
    if (!this.film) return;
    if (this.fitted) return this.fit();
    this.left += (this.canvas.width - before[0]) / 2;
    this.top += (this.canvas.height - before[1]) / 2;
    this.redraw();
  }

  fit() {
    this.scale = Math.min(this.canvas.width / this.film.width, this.canvas.height / this.film.height);
    this.left = (this.canvas.width - this.film.width * this.scale) / 2;
    this.top = (this.canvas.height - this.film.height * this.scale) / 2;
    this.fitted = true;
    this.redraw();
  }

  // Zoom by a factor around a point of the canvas, in its own pixels; the middle if none is given.
  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const scale = Math.min(Math.max(this.scale * factor, 0.02), 40);
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.redraw();
  }

  move(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.fitted = false;
    this.redraw();
  }

  point(x, y) {
    this.pointer = { x: Math.floor((x - this.left) / this.scale), y: Math.floor((y - this.top) / this.scale) };
    this.redraw();
  }

  redraw() {
    if (this.waiting || !this.film) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  paint() {
    const { context, canvas, film } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(this.scale, 0, 0, this.scale, this.left, this.top);
    this.stretch(this.pixels, this.scale < 4);
    if (this.finding) {
      if (this.layers.attention) this.stretch(this.drawn.attention, true);
      if (this.layers.heat) { context.globalAlpha = this.opacity; this.stretch(this.drawn.heat, true); context.globalAlpha = 1; }
      if (this.layers.mask) this.paintMask();
      if (this.layers.boxes) this.paintBoxes();
    }
    this.readout.textContent = this.describe();
  }

  stretch(image, smooth) {
    this.context.imageSmoothingEnabled = smooth;
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(image, 0, 0, this.film.width, this.film.height);
  }

  // The border of the mask, dashed, along the edges of its patches.
  paintMask() {
    const { context, film } = this;
    const { grid } = film;
    const mask = film.maskMaps[film.findings.indexOf(this.finding)];
    const inside = (x, y) => x >= 0 && y >= 0 && x < grid && y < grid && mask[y * grid + x] === 1;
    const across = (film.width * this.scale) / grid, down = (film.height * this.scale) / grid;
    const border = new Path2D();
    for (let y = 0; y <= grid; y++) {
      for (let x = 0; x <= grid; x++) {
        const left = this.left + x * across, top = this.top + y * down;
        if (inside(x, y) !== inside(x - 1, y)) { border.moveTo(left, top); border.lineTo(left, top + down); }
        if (inside(x, y) !== inside(x, y - 1)) { border.moveTo(left, top); border.lineTo(left + across, top); }
      }
    }
    const density = window.devicePixelRatio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    for (const [style, line, dash] of [["rgb(0 0 0 / .6)", 3.5, []], [this.colour(0.9), 1.5, [7, 5]]]) {
      context.strokeStyle = style;
      context.lineWidth = line * density;
      context.setLineDash(dash.map((length) => length * density));
      context.stroke(border);
    }
    context.setLineDash([]);
  }

  paintBoxes() {
    const { context } = this;
    const density = window.devicePixelRatio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.font = `600 ${13 * density}px system-ui, sans-serif`;
    this.boxes.forEach((box, order) => {
      const x = this.left + box.x0 * this.scale, y = this.top + box.y0 * this.scale;
      const width = (box.x1 - box.x0) * this.scale, height = (box.y1 - box.y0) * this.scale;
      for (const [style, line] of [["rgb(0 0 0 / .65)", 4], [this.colour(1), order ? 1.25 : 2]]) {
        context.strokeStyle = style;
        context.lineWidth = line * density;
        context.strokeRect(x, y, width, height);
      }
      if (order === 0) this.label(`${plainName(this.finding)} ${box.score.toFixed(2)}`, x, y - 6 * density);
    });
  }

  label(text, x, y) {
    const { context } = this;
    const bottom = Math.max(y, 18 * window.devicePixelRatio);
    context.lineWidth = 4 * window.devicePixelRatio;
    context.lineJoin = "round";
    context.strokeStyle = "rgb(0 0 0 / .8)";
    context.strokeText(text, x, bottom);
    context.fillStyle = this.colour(1);
    context.fillText(text, x, bottom);
  }

  colour(alpha) {
    return `rgb(${this.film.colours[this.finding].join(" ")} / ${alpha})`;
  }

  heatLayer() {
    const rise = Math.max(1 - this.threshold, 1e-6);
    return this.tinted(this.film.heat, this.film.side, (value) => {
      const above = (value / 65535 - this.threshold) / rise;
      return above > 0 ? 60 + 195 * above ** 0.7 : 0;
    });
  }

  attentionLayer() {
    return this.tinted(this.film.attentionMaps, this.film.grid, (value) => value * 0.7);
  }

  tinted(maps, side, alphaOf) {
    const index = this.film.findings.indexOf(this.finding);
    const [red, green, blue] = this.film.colours[this.finding];
    const image = new ImageData(side, side);
    maps[index].forEach((value, pixel) => image.data.set([red, green, blue, alphaOf(value)], 4 * pixel));
    const canvas = new OffscreenCanvas(side, side);
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  describe() {
    const { film, window: shown, pointer } = this;
    const inside = pointer && pointer.x >= 0 && pointer.y >= 0 && pointer.x < film.width && pointer.y < film.height;
    const value = inside ? `   x ${pointer.x}  y ${pointer.y}  value ${film.grey[pointer.y * film.width + pointer.x]}` : "";
    const zoom = `zoom ${Math.round(this.scale * 100)} %`;
    return `${film.width} × ${film.height}   ${zoom}   W ${Math.round(shown.width)}  L ${Math.round(shown.level)}${value}`;
  }
}

function plainName(finding) {
  return finding.replaceAll("_", " ");
}
