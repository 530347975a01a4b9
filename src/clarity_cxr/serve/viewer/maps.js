// What the server says about a film, decoded: pixels, maps, and boxes at any threshold.
"use strict";

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

async function greyOf(png) {
  const bitmap = await createImageBitmap(new Blob([png], { type: "image/png" }), { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  return Uint8Array.from({ length: rgba.length / 4 }, (_, pixel) => rgba[4 * pixel]);
}

async function readAnswer(answer) {
  const maps = (name, Values, side) => {
    const all = new Values(bytesOf(answer[name]).buffer);
    return answer.findings.map((_, k) => all.subarray(k * side * side, (k + 1) * side * side));
  };
  return {
    ...answer,
    grey: await greyOf(bytesOf(answer.film)),
    heat: maps("heatmaps", Uint16Array, answer.side),
    attentionMaps: maps("attention", Uint8Array, answer.grid),
    maskMaps: maps("masks", Uint8Array, answer.grid),
  };
}

// Boxes of the 8-connected components of heat above the threshold, in film pixels, most heat first.
function boxesAbove(film, finding, threshold) {
  const { side } = film;
  const heat = film.heat[film.findings.indexOf(finding)];
  const limit = threshold * 65535;
  const seen = new Uint8Array(heat.length);
  const boxes = [];
  for (let start = 0; start < heat.length; start++) {
    if (seen[start] || heat[start] <= limit) continue;
    boxes.push(component(heat, side, limit, start, seen));
  }
  boxes.sort((a, b) => b.total - a.total);
  const across = film.width / side, down = film.height / side;
  return boxes.map((box) => ({
    x0: box.x0 * across, y0: box.y0 * down, x1: box.x1 * across, y1: box.y1 * down,
    score: (box.total / box.pixels / 65535) * film.probabilities[finding],
  }));
}

function component(heat, side, limit, start, seen) {
  const box = { x0: side, y0: side, x1: 0, y1: 0, total: 0, pixels: 0 };
  const open = [start];
  seen[start] = 1;
  while (open.length) {
    const at = open.pop();
    const x = at % side, y = (at - x) / side;
    box.x0 = Math.min(box.x0, x); box.x1 = Math.max(box.x1, x + 1);
    box.y0 = Math.min(box.y0, y); box.y1 = Math.max(box.y1, y + 1);
    box.total += heat[at];
    box.pixels += 1;
    for (let ny = Math.max(y - 1, 0); ny <= Math.min(y + 1, side - 1); ny++) {
      for (let nx = Math.max(x - 1, 0); nx <= Math.min(x + 1, side - 1); nx++) {
        const next = ny * side + nx;
        if (!seen[next] && heat[next] > limit) { seen[next] = 1; open.push(next); }
      }
    }
  }
  return box;
}
