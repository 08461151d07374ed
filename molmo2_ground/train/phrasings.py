"""The words in which things are asked for in training: several sentences for each task and medium.

The words that inference uses are `query.build_prompt`'s and stand there alone. Some sentences here have the
shape that the released models were trained with, so that these still know them; the rest are our own.

    {label}   what is looked for, as the data set says it
    {bare}    the same without `the` or `a` in front
    {scene}   image, picture, photo, or video, clip
    {images}  `all images`, or `image_1, image_3`
    {fps}     places a second
    {start}   the point to start at, as markup

No sentence of one task stands under another task of the same medium: the words alone say what form the
answer has. A label is never bent into a singular or a plural: that could say how many there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molmo2_ground.train.rows import MediumKind, TaskName

SCENES: dict[MediumKind, tuple[str, ...]] = {
    "image": ("image", "picture", "photo"),
    "images": ("images", "pictures"),
    "video": ("video", "clip"),
}

_POINT = (
    "Point to {label}",
    "Locate every {bare}.",
    "find any {bare} in the {scene}",
    "Show me where the {bare} are",
    "Where are the {bare}?",
    "point at each {bare}",
    "Mark all {bare} that can be seen in the {scene}.",
    "Put a point on every one of the {bare} you can see.",
    "I am looking for {label}. Point out where in the {scene}.",
    "Please give the position of all {bare}.",
    "Give one point for each {bare} in this {scene}.",
    "{label}: where?",
)
NONE_TAILS = (
    "\nPlease say 'There are none.' if it is not in the {scene}.",
    "\nIf the {scene} has nothing like that, say 'There are none.'",
    "\nAnswer 'There are none.' when there is nothing to point to.",
)
_POINT_THEN_COUNT = (
    "How many {bare} are there?",
    "count each {bare}",
    "Point to and count the {bare} in the {scene}.",
    "How many {bare} can you see in this {scene}?",
    "Count the {bare}.",
    "What is the number of {bare} in the {scene}?",
    "Point at every {bare}, then tell me how many that makes.",
    "give me a count of {label}",
    "Find all {bare} in the {scene} and count them.",
    "Point to each {bare} as you count.",
)
_COUNT_THEN_POINT = (
    "How many {bare} are there in the {scene}? Then point to the result.",
    "Say how many {bare} there are, then point to each of them.",
    "First the number of {bare} in the {scene}, then a point on each.",
    "Count {label}. Give the number first and the points after it.",
    "Tell me the number of {bare} and then show where they are.",
    "Number first, points second: {label}",
)
_COUNT = (
    "How many {bare} are there in the {scene}? Answer with a number only.",
    "Only the number: how many {bare}?",
    "Count the {bare} in the {scene} without pointing.",
    "Total number of {bare} in this {scene}, nothing else.",
    "Give just the count of {label}.",
    "Without showing where, how many {bare} are there?",
)

_POINT_IN_IMAGES = (
    "Point to all {bare} in {images}.",
    "find {label} in {images}.",
    "In {images}, point to {label}.",
    "Look at {images} and point out every {bare}.",
    "Where in {images} is there any {bare}?",
    "Mark {label} wherever it comes up in {images}.",
    "{images}: show each {bare} with a point",
)
_POINT_THEN_COUNT_IN_IMAGES = (
    "Point then count {label} in {images}.",
    "How many {bare} are there in {images}?",
    "Point to each {bare} in {images} and count them.",
    "Count {label} over {images}, with a point on each.",
    "In {images}, find and count all {bare}.",
    "What do the {bare} in {images} add up to? Point as you count.",
)
_COUNT_THEN_POINT_IN_IMAGES = (
    "Total {bare} across {images}? Then point to the result.",
    "How many {bare} are there in {images}? Then point to the result.",
    "Say how many {bare} are in {images}, then point to each of them.",
    "For {images}: the number of {bare} first, the points after it.",
    "Count {label} in {images} and then show where.",
)
_COUNT_IN_IMAGES = (
    "Total {bare} across {images}?",
    "Across {images}, how many {bare}? Answer with a number only.",
    "Only the number of {bare} in {images}.",
    "Without pointing, count {label} in {images}.",
    "Give just the total of {label} over {images}.",
)

TRACK_UNRATED = (
    "Track {label}.",
    "track every {bare}.",
    'please track "{label}".',
    "Track: {label}",
    "Follow {label} through the {scene}.",
    "Keep track of {label} from start to end.",
    "Where does {label} move in this {scene}? Track it.",
    "I want to follow {label}.",
)
TRACK_RATED = (
    "Track {label} at {fps} FPS",
    "Follow the {bare} throughout this {scene}. Sample positions at {fps} FPS and write them down.",
    "Track all instances of '{label}' in this {scene}, sampling at {fps} frames per second. "
    'Write the positions as <track coords="t id x y">label</tracks>.',
    "At {fps} FPS, follow {label}.",
    "Give the places of every {bare} in the {scene} at a rate of {fps} FPS.",
    "track {label}, {fps} FPS",
    "Follow {label} through the {scene}; one position every 1/{fps} of a second.",
)
_FIRST_LAST = (
    "Mark the positions of each {bare} at its first and final appearances in the {scene}.",
    "Where is each {bare} seen first, and where last?",
    "For every {bare}, give only the place where it comes into the {scene} and the place where it leaves.",
    "First and last sighting of {label}",
    "Point to {label} twice: when it first shows and when it last shows.",
    "In this {scene}, where do the {bare} appear and where do they disappear?",
    "Track only the beginning and the end: {label}",
)
FROM_POINT_RATED = (
    "Can you track the point {start} throughout the {scene} at {fps} FPS?",
    "Start at {start} and follow it for the rest of the {scene}, {fps} FPS.",
    "From {start} on, where does it go? Sample at {fps} FPS.",
    "This is {label}: {start}. Follow it from there at {fps} FPS.",
    "{start} Track it, sampling at {fps} frames per second.",
)
FROM_POINT_UNRATED = (
    "Track {start}.",
    "Start at {start} and follow it for the rest of the {scene}.",
    "From {start} on, where does it go?",
    "This is {label}: {start}. Follow it from there.",
)

PLACES: dict[tuple[TaskName, MediumKind], tuple[str, ...]] = {
    ("point", "image"): _POINT,
    ("point_then_count", "image"): _POINT_THEN_COUNT,
    ("count_then_point", "image"): _COUNT_THEN_POINT,
    ("count", "image"): _COUNT,
    ("point", "images"): _POINT_IN_IMAGES,
    ("point_then_count", "images"): _POINT_THEN_COUNT_IN_IMAGES,
    ("count_then_point", "images"): _COUNT_THEN_POINT_IN_IMAGES,
    ("count", "images"): _COUNT_IN_IMAGES,
    ("point", "video"): _POINT,
    ("point_then_count", "video"): _POINT_THEN_COUNT,
    ("count_then_point", "video"): _COUNT_THEN_POINT,
    ("count", "video"): _COUNT,
    ("first_last", "video"): _FIRST_LAST,
}
"""Sentences that name neither a rate nor a point to start at."""

# Half of the questions about all images are worded as for one.
POINT_IN_ALL = _POINT

_DESCRIBE = (
    "Describe this {scene}.",
    "Describe the {scene} in detail.",
    "What is to be seen in this {scene}? Leave nothing out.",
    "Write a long description of the {scene}.",
    "tell me everything about this {scene}",
    "Give a full account of what the {scene} shows.",
)
_DESCRIBE_SHORT = (
    "Describe this {scene} in short.",
    "What does the {scene} show? One sentence.",
    "A short caption for this {scene}, please.",
    "Sum up the {scene} briefly.",
    "caption the {scene} in a few words",
)
CAPTIONS: dict[str, tuple[str, ...]] = {
    "long_caption": _DESCRIBE,
    "short_caption": _DESCRIBE_SHORT,
    "video_long_caption": _DESCRIBE,
    "video_short_caption": _DESCRIBE_SHORT,
    "video_transcript": (
        "Write down what is said in this {scene}.",
        "Transcribe the {scene}.",
        "What do people say in the {scene}? Word for word, please.",
        "transcript of this {scene}",
    ),
}
"""By style; other styles of caption are asked for by their name alone."""

NO_POINTING = (
    "Answer without pointing.",
    "No points, please.",
    "Do not point to anything.",
    "Say it in words, without coordinates.",
    "Just answer, there is no need to point.",
    "Text only, no pointing:",
    "Without marking anything in the {scene}:",
    "Keep points out of the answer.",
)
"""In front of a question for a number whose answer has no points: counting alone is asked for with points."""
