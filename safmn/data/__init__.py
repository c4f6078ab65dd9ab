"""Images, from a file to a training batch, in the order in which they pass.

- `catalogue`, `supply`: what can be downloaded, and what a study needs of it; `fetching`, `download`, `archives` get it
- `images`: one picture file -> uint8 RGB array; `photo`: a picture to look at, with profile and transparency
- `bicubic`: MATLAB's bicubic reduction and enlargement, bit for bit
- `colour`: RGB and YCbCr as in MATLAB
- `layouts`, `agreement`, `pairs`: a folder -> pairs of HR and LR images, LR made where it is missing
- `sources`: a dataset's name -> where its images are, and which of them a study selects
- `manifest`: hashes of a packed dataset's images, by which two people can compare their data
- `packed`: a dataset decoded once into one memory-mapped uint8 file
- `draws`, `patches`: seed and iteration -> a batch of augmented patches
"""
