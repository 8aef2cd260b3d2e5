"""PyNET and PyNET-QxQ: a demosaicing network over five scales, and one that keeps two of them for QxQ sensors.

In reading order: `blocks`, `teacher` (PyNET), `student` (PyNET-QxQ), and `correction`, by which both correct a skip.
"""

from zoo.pynet.student import PyNETQxQ as PyNETQxQ
from zoo.pynet.teacher import PyNET as PyNET
