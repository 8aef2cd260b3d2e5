"""The camera: colour filter arrays, photographs as training data, the sensor, and what networks are measured against.

In reading order: `cfa` (which colour a pixel sees), `imperfections` and `sensor` (what a real one does), `reading` and
`photographs` (files), `dataset` (mosaics with their truth), `targets` (what a supervised term compares), `baselines`,
`menon`, `steered`, `lmmse` and `remosaic` (demosaicing without a network) with `methods` (all of it by name), `metrics`
and `artefacts`, and `evaluation` with its `pictures` and `sheet`.
"""

from zoo.raw.methods.baselines import BinBicubic as BinBicubic
from zoo.raw.methods.baselines import Malvar as Malvar
from zoo.raw.methods.baselines import NormalisedConvolution as NormalisedConvolution
from zoo.raw.methods.lmmse import LMMSEPhase as LMMSEPhase
from zoo.raw.methods.menon import Menon as Menon
from zoo.raw.methods.remosaic import Remosaic as Remosaic
from zoo.raw.methods.steered import SteeredKernelRegression as SteeredKernelRegression
from zoo.raw.photographs.dataset import PhotographCrops as PhotographCrops
from zoo.raw.photographs.dataset import PhotographFrames as PhotographFrames
from zoo.raw.photographs.losses import mse_inside as mse_inside
from zoo.raw.photographs.photographs import Photographs as Photographs
from zoo.raw.photographs.targets import Reduced as Reduced
from zoo.raw.scoring.evaluation import DemosaicEvaluation as DemosaicEvaluation
from zoo.raw.sensor.cfa import CFA as CFA
from zoo.raw.sensor.from_mosaic import FromMosaic as FromMosaic
from zoo.raw.sensor.sensor import Sensor as Sensor
