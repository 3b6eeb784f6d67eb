import { type Augmentation, checkView } from '../data/augment.ts'
import type { ImageShape } from '../data/dataset.ts'
import type { Fault } from '../errors.ts'
import type { ChosenUnits } from './chosen.ts'
import type { Definition } from './definition.ts'

/** How each view of a batch is drawn: as the definition says, or as the method does of itself. */
export function viewsOf({ views }: Definition, { method }: ChosenUnits): readonly Augmentation[] {
  return views ?? method.unit.views(method.parameters)
}

/** Where the views do not fit the method or the images. */
export function checkViews(definition: Definition, units: ChosenUnits, imageShape: ImageShape): Fault[] {
  const { unit, parameters } = units.method
  const { views } = definition
  if (views && unit.fitted)
    return [{ pointer: '/views', detail: `'${unit.name}' takes no step and draws no views: leave it out` }]
  const faults: Fault[] = []
  const count = unit.views(parameters).length
  if (views && views.length !== count)
    faults.push({
      pointer: '/views',
      detail: `has ${views.length}; '${unit.name}' draws ${count === 1 ? 'one view' : `${count} views`} of an image, so there should be ${count}`,
    })
  for (const [i, view] of viewsOf(definition, units).entries())
    for (const { pointer, detail } of checkView(view, imageShape))
      faults.push(
        views
          ? { pointer: `/views/${i}${pointer}`, detail }
          : {
              pointer: '/method/name',
              detail: `'${unit.name}' draws views whose ${pointer.slice(1)} ${detail}; name others in 'views'`,
            },
      )
  return faults
}
