"""Slow, obvious heatmaps and boxes: bilinear pixel by pixel, a flood fill from every pixel above the threshold."""

import numpy as np


def flood_fill_components(heatmap, threshold):
    """Components of `heatmap > threshold` as lists of (y, x), in the order of their first pixel, 8-connected."""
    height, width = heatmap.shape
    above = heatmap > np.float64(threshold)
    seen = np.zeros_like(above)
    components = []
    for y in range(height):
        for x in range(width):
            if not above[y, x] or seen[y, x]:
                continue
            seen[y, x] = True
            waiting, members = [(y, x)], []
            while waiting:
                cy, cx = waiting.pop()
                members.append((cy, cx))
                for ny in range(max(cy - 1, 0), min(cy + 2, height)):
                    for nx in range(max(cx - 1, 0), min(cx + 2, width)):
                        if above[ny, nx] and not seen[ny, nx]:
                            seen[ny, nx] = True
                            waiting.append((ny, nx))
            components.append(members)
    return components


def flood_fill_boxes(heatmap, threshold):
    """(k,4) half-open boxes, (k,) mean and (k,) total heat of the components."""
    boxes, means, totals = [], [], []
    for members in flood_fill_components(heatmap, threshold):
        ys = [y for y, _ in members]
        xs = [x for _, x in members]
        heat = [float(heatmap[y, x]) for y, x in members]
        boxes.append([min(xs), min(ys), max(xs) + 1, max(ys) + 1])
        means.append(sum(heat) / len(heat))
        totals.append(sum(heat))
    return np.array(boxes, dtype=float).reshape(-1, 4), np.array(means), np.array(totals)


def overlap_of_boxes(a, b):
    """IoU of two half-open boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def best_overlaps(heatmap, truth, threshold):
    """Best IoU of each true box with any component, and with the component that has the most total heat."""
    boxes, _, totals = flood_fill_boxes(heatmap, threshold)
    overlaps = [[overlap_of_boxes(box, true) for box in boxes] for true in truth]
    top = None if len(boxes) == 0 else int(np.argmax(totals))
    return (
        [max(row, default=0.0) for row in overlaps],
        [0.0 if top is None else row[top] for row in overlaps],
    )


def bilinear_scaled(grid, size):
    """One (N,N) map brought to (size,size), pixel centres aligned, edges repeated, then min-max scaled."""
    n = len(grid)
    full = np.zeros((size, size))
    for y in range(size):
        for x in range(size):
            v = min(max((y + 0.5) * n / size - 0.5, 0), n - 1)
            u = min(max((x + 0.5) * n / size - 0.5, 0), n - 1)
            y0, x0 = int(v), int(u)
            y1, x1 = min(y0 + 1, n - 1), min(x0 + 1, n - 1)
            top = grid[y0][x0] * (1 - (u - x0)) + grid[y0][x1] * (u - x0)
            bottom = grid[y1][x0] * (1 - (u - x0)) + grid[y1][x1] * (u - x0)
            full[y, x] = top * (1 - (v - y0)) + bottom * (v - y0)
    if full.max() == full.min():
        return np.zeros_like(full)
    return (full - full.min()) / (full.max() - full.min())
