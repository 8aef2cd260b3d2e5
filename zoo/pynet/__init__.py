"""PyNET and PyNET-QxQ: a demosaicing network over five scales, and one that keeps two of them for QxQ sensors.

In reading order: `blocks`, `teacher` (PyNET), `student` (PyNET-QxQ), and `correction`, by which both correct a skip.
"""

from zoo.pynet.pynet import PyNET as PyNET
from zoo.pynet.pynet_qxq import PyNETQxQ as PyNETQxQ
