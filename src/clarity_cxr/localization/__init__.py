"""From attention and mask to localization heatmaps, boxes and the threshold of each finding (Section 3.9).

`heatmaps` makes Xi, `boxes` turns Xi into boxes at one or many thresholds, `thresholds` measures the boxes against
the truth at every candidate threshold and chooses the best one.
"""
