// Mouse, pen and fingers on the film: drag, wheel, pinch.
class Gestures {
  constructor(view) {
    this.view = view;
    this.tool = "pan";
    this.down = new Map();
    const { canvas } = view;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("dblclick", () => view.film && view.fit());
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.down.delete(event.pointerId));
  }

  place(event) {
    const frame = this.view.canvas.getBoundingClientRect();
    const density = window.devicePixelRatio;
    return { x: (event.clientX - frame.left) * density, y: (event.clientY - frame.top) * density };
  }

  wheel(event) {
    event.preventDefault();
    if (!this.view.film) return;
    const { x, y } = this.place(event);
    this.view.zoom(Math.exp(-event.deltaY / (event.deltaMode ? 10 : 400)), x, y);
  }

  press(event) {
    if (!this.view.film) return;
    this.view.canvas.setPointerCapture(event.pointerId);
    this.down.set(event.pointerId, { ...this.place(event), windowing: event.button === 2 || this.tool === "window" });
  }

  drag(event) {
    if (!this.view.film) return;
    const here = this.place(event);
    const before = this.down.get(event.pointerId);
    this.view.point(here.x, here.y);
    if (!before) return;
    if (this.down.size === 2) this.pinch(event.pointerId, before, here);
    else if (before.windowing) this.dragWindow(here.x - before.x, here.y - before.y);
    else this.view.move(here.x - before.x, here.y - before.y);
    Object.assign(before, here);
  }

  dragWindow(dx, dy) {
    const { width, level } = this.view.window;
    const step = 0.4 / window.devicePixelRatio;
    this.view.setWindow(width + dx * step, level - dy * step);
  }

  pinch(moved, before, here) {
    const [other] = [...this.down].filter(([id]) => id !== moved).map(([, at]) => at);
    const length = (at) => Math.hypot(at.x - other.x, at.y - other.y);
    this.view.zoom(length(here) / Math.max(length(before), 1), (here.x + other.x) / 2, (here.y + other.y) / 2);
    this.view.move((here.x - before.x) / 2, (here.y - before.y) / 2);
  }
}
